//! Plots as SVG: one panel for each figure, both axes logarithmic.

use std::fmt::Write as _;

use super::sample::{Growth, Sample};

const WIDTH: f64 = 330.0;
const HEIGHT: f64 = 230.0;
const COLUMNS: usize = 3;
/// Room around a panel for the labels of its axes.
const LEFT: f64 = 56.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 30.0;
/// Room for the title and the legend.
const HEAD: f64 = 52.0;
const COLOURS: [&str; 7] = ["#1b6ca8", "#d1495b", "#2e8b57", "#b8860b", "#6a4c93", "#444444", "#00868b"];

/// A logarithmic axis. 0 is drawn at a tenth of the least positive value.
struct Axis {
    least: f64,
    most: f64,
    from: f64,
    length: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64> + Clone, from: f64, length: f64) -> Axis {
        let positive = values.clone().filter(|value| *value > 0.0);
        let (mut least, mut most) = (positive.clone().fold(f64::INFINITY, f64::min), positive.fold(0.0, f64::max));
        if values.clone().any(|value| value == 0.0) {
            least /= 10.0;
        }
        if most <= least * 1.01 {
            (least, most) = (least / 2.0, most * 2.0);
        }
        Axis { least, most, from, length }
    }

    /// Extended to the next ticks on both sides, so that noise does not fill the panel.
    fn rounded(self) -> Axis {
        let steps = || (-9..=12).flat_map(|decade| [1.0, 2.0, 5.0].map(|step| step * 10_f64.powi(decade)));
        let least = steps().rfind(|step| *step <= self.least * 0.999).unwrap_or(self.least);
        let most = steps().find(|step| *step >= self.most * 1.001).unwrap_or(self.most);
        Axis { least, most, ..self }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + self.length * (value.max(self.least) / self.least).ln() / (self.most / self.least).ln()
    }

    /// 1, 2 and 5 of each decade, or only 1 if there are many decades.
    fn ticks(&self) -> Vec<f64> {
        let decades = self.least.log10().floor() as i32..=self.most.log10().ceil() as i32;
        let steps: &[f64] = if decades.clone().count() > 4 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let ticks = decades.flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)));
        ticks.filter(|tick| (self.least * 0.99..=self.most * 1.01).contains(tick)).collect()
    }
}

/// One SVG document.
pub fn svg(growth: &Growth, samples: &[Sample]) -> String {
    let mut names: Vec<&str> = Vec::new();
    let mut curves: Vec<&str> = Vec::new();
    for sample in samples {
        curves.extend((!curves.contains(&&*sample.curve)).then_some(&*sample.curve));
        let positive = sample.figures.iter().filter(|(_, value)| *value > 0.0);
        for (name, _) in positive {
            names.extend((!names.contains(name)).then_some(name));
        }
    }
    let (columns, rows) = (names.len().clamp(1, COLUMNS), names.len().div_ceil(COLUMNS));
    let (width, height) = (columns as f64 * WIDTH, rows as f64 * HEIGHT + HEAD);
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">
<rect width="100%" height="100%" fill="#fff"/>
<text x="10" y="20" font-size="14">{}</text>
"##,
        growth.title
    );
    let mut x = 10.0;
    for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let _ = writeln!(
            svg,
            r#"<rect x="{x:.0}" y="30" width="12" height="4" fill="{colour}"/><text x="{:.0}" y="36">{curve}</text>"#,
            x + 16.0
        );
        x += 34.0 + curve.len() as f64 * 6.2;
    }
    for (number, name) in names.iter().enumerate() {
        let (column, row) = (number % COLUMNS, number / COLUMNS);
        let _ = writeln!(
            svg,
            r#"<g transform="translate({:.0} {:.0})">"#,
            column as f64 * WIDTH,
            row as f64 * HEIGHT + HEAD
        );
        panel(&mut svg, growth, name, &curves, samples);
        svg.push_str("</g>\n");
    }
    svg + "</svg>\n"
}

fn panel(svg: &mut String, growth: &Growth, name: &str, curves: &[&str], samples: &[Sample]) {
    let point = |sample: &Sample| {
        let (_, value) = sample.figures.iter().find(|(figure, value)| *figure == name && *value > 0.0)?;
        Some((sample.x, *value))
    };
    let points: Vec<(f64, f64)> = samples.iter().filter_map(point).collect();
    let mut xs: Vec<f64> = points.iter().map(|(x, _)| *x).collect();
    xs.sort_unstable_by(f64::total_cmp);
    xs.dedup();
    let across = Axis::new(xs.iter().copied(), LEFT, WIDTH - LEFT - RIGHT);
    let up = Axis::new(points.iter().map(|(_, y)| *y), HEIGHT - BOTTOM, TOP + BOTTOM - HEIGHT).rounded();
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let _ = writeln!(svg, r#"<text x="{LEFT}" y="{}" font-weight="bold">{name}</text>"#, TOP - 10.0);
    for tick in up.ticks() {
        let y = up.at(tick);
        let _ = writeln!(
            svg,
            r##"<path d="M{LEFT} {y:.1}H{right}" stroke="#ddd"/><text x="{:.0}" y="{:.1}" text-anchor="end">{}</text>"##,
            LEFT - 5.0,
            y + 4.0,
            short(tick)
        );
    }
    let mut free_from = 0.0;
    for x in xs {
        let at = across.at(x);
        let _ = writeln!(svg, r##"<path d="M{at:.1} {bottom}v4" stroke="#999"/>"##);
        // Labels that would overlap are left out.
        if at >= free_from {
            let label = (growth.label)(x);
            let _ = writeln!(svg, r#"<text x="{at:.1}" y="{:.0}" text-anchor="middle">{label}</text>"#, bottom + 16.0);
            free_from = at + 10.0 + label.len() as f64 * 6.5;
        }
    }
    let _ = writeln!(svg, r##"<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#999"/>"##);
    for (curve, colour) in curves.iter().zip(COLOURS.iter().cycle()) {
        let mut of_curve: Vec<(f64, f64)> =
            samples.iter().filter(|sample| sample.curve == *curve).filter_map(point).collect();
        of_curve.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
        let mut line = String::new();
        for (x, y) in of_curve {
            let (x, y) = (across.at(x), up.at(y));
            let _ = write!(line, "{}{x:.1} {y:.1}", if line.is_empty() { 'M' } else { 'L' });
            let _ = writeln!(svg, r#"<circle cx="{x:.1}" cy="{y:.1}" r="2.5" fill="{colour}"/>"#);
        }
        let _ = writeln!(svg, r#"<path d="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>"#);
    }
}

/// A number with few characters.
pub fn short(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e3 => (value / 1e3, "k"),
        value => (value, ""),
    };
    // Three significant digits of what has a unit.
    let precision = if unit.is_empty() { 1e9 } else { 10_f64.powi(2 - value.log10().floor() as i32) };
    format!("{}{unit}", (value * precision).round() / precision)
}

/// A number of bytes with few characters.
pub fn short_bytes(value: f64) -> String {
    match value {
        value if value >= 1_048_576.0 => format!("{} MiB", (value / 104_857.6).round() / 10.0),
        value => format!("{} KiB", (value / 102.4).round() / 10.0),
    }
}
