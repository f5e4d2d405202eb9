//! The medians and the ratios, as a table in Markdown.

use super::case::{Case, Mode, Server, To};
use super::goals;
use super::row::Row;

struct Rows<'a>(&'a [Row]);

impl Rows<'_> {
    /// A figure of every run of a case, sorted.
    fn all(&self, name: &str, figure: impl Fn(&Row) -> f64) -> Vec<f64> {
        let mut all: Vec<f64> = self.0.iter().filter(|row| row.name == name).map(figure).collect();
        all.sort_unstable_by(f64::total_cmp);
        all
    }

    fn median(&self, name: &str, figure: impl Fn(&Row) -> f64) -> Option<f64> {
        let all = self.all(name, figure);
        let (low, high) = (all.get(all.len().checked_sub(1)? / 2)?, all.get(all.len() / 2)?);
        Some(f64::midpoint(*low, *high))
    }

    fn rate(&self, name: &str) -> Option<f64> {
        self.median(name, |row| row.rate)
    }

    fn cpu(&self, name: &str) -> Option<f64> {
        self.median(name, |row| row.cpu_s_per_1000)
    }
}

/// Prints a line for each case.
pub fn print(cases: &[Case], rows: &[Row]) {
    let rows = Rows(rows);
    let head = [
        "",
        "deliveries/s (min–max)",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "CPU s / 1,000",
        "CPU ÷ floor's",
        "rate ÷ native",
        "rate ÷ embedded",
        "rate ÷ Bento *",
        "peak MiB",
        "not 2xx",
    ];
    println!("\n| {} |\n|{}", head.join(" | "), "---|".repeat(head.len()));
    for case in cases {
        println!("| {} |", cells(case, &rows).join(" | "));
    }
    println!(
        "\nIn parentheses: the goal, and ✗ where it is missed. * Bento 1.20 as a share of the floor's rate on 2026-11-25, \
         times the floor's rate now."
    );
}

fn cells(case: &Case, rows: &Rows<'_>) -> Vec<String> {
    let name = &case.name;
    let rates = rows.all(name, |row| row.rate);
    let (Some(rate), Some(least), Some(most)) = (rows.rate(name), rates.first(), rates.last()) else {
        return vec![name.clone()];
    };
    let number =
        |figure: fn(&Row) -> f64, digits| format!("{:.digits$}", rows.median(name, figure).unwrap_or(f64::NAN));
    let failed: u64 = rows.0.iter().filter(|row| row.name == *name).map(Row::failed).sum();
    let mut cells = vec![
        name.clone(),
        format!("{rate:.0} ({least:.0}–{most:.0})"),
        number(|row| row.p50_ms, 2),
        number(|row| row.p99_ms, 1),
        number(|row| row.p999_ms, 1),
        number(|row| row.cpu_s_per_1000, 4),
    ];
    cells.extend(ratios(case, rows, rate));
    cells.extend([number(|row| row.peak_mib, 0), failed.to_string()]);
    cells
}

/// CPU to the floor's; rate to the native client's, to that of the embedded store, and to Bento's.
fn ratios(case: &Case, rows: &Rows<'_>, rate: f64) -> [String; 4] {
    let (Server::Bridge(mode), to) = (case.server, case.to) else { return [const { String::new() }; 4] };
    let rate_of = |other: String| rows.rate(&other).map(|other| rate / other);
    let cpu = rows.cpu(&case.name).zip(rows.cpu("floor")).map(|(cpu, floor)| cpu / floor);
    let embedded = (mode == Mode::Stored).then(|| rate_of(format!("{}-embedded", to.name()))).flatten();
    let native = (to != To::Nothing).then(|| rate_of(format!("native-{}", to.name()))).flatten();
    let bento = goals::bento_of_floor(to).zip(rows.rate("floor")).map(|(share, floor)| rate / (share * floor));
    [
        ratio(cpu, goals::most_cpu(to, mode), "≤", |value, goal| value <= goal),
        ratio(native, goals::least_of_native(to, mode), "≥", |value, goal| value >= goal),
        ratio(embedded, goals::least_of_embedded(to, mode), "≥", |value, goal| value >= goal),
        ratio(bento, goals::least_of_bento(to, mode), "≥", |value, goal| value >= goal),
    ]
}

fn ratio(value: Option<f64>, goal: Option<f64>, sign: &str, holds: fn(f64, f64) -> bool) -> String {
    match (value, goal) {
        (None, _) => String::new(),
        (Some(value), None) => format!("{value:.2}"),
        (Some(value), Some(goal)) => {
            format!("{value:.2} ({sign} {goal}){}", if holds(value, goal) { "" } else { " ✗" })
        }
    }
}
