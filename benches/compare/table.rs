//! The medians and the ratios, as a table in Markdown.

use super::case::{Case, Mode, Server, To};
use super::goals;
use super::load::Load;
use super::row::Row;

/// What has goals depends on the load: at a fixed rate the tail, with one connection the median, otherwise the rest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aim {
    Rate,
    Median,
    Tail,
}

/// Every run.
struct Rows<'a> {
    all: &'a [Row],
    aim: Aim,
    connections: usize,
}

/// The median of a figure over all runs of a case.
pub fn median(all: &[Row], name: &str, figure: impl Fn(&Row) -> f64) -> Option<f64> {
    let all = sorted(all, name, figure);
    let (low, high) = (all.get(all.len().checked_sub(1)? / 2)?, all.get(all.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

fn sorted(all: &[Row], name: &str, figure: impl Fn(&Row) -> f64) -> Vec<f64> {
    let mut figures: Vec<f64> = all.iter().filter(|row| row.name == name).map(figure).collect();
    figures.sort_unstable_by(f64::total_cmp);
    figures
}

/// Prints a line for each case.
pub fn print(cases: &[Case], all: &[Row], load: &Load) {
    let aim = match (load.rate, load.connections) {
        (Some(_), _) => Aim::Tail,
        (None, 1) => Aim::Median,
        (None, _) => Aim::Rate,
    };
    let rows = Rows { all, aim, connections: load.connections };
    let head = [
        "",
        "deliveries/s (min–max)",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "CPU s / 1,000",
        "CPU ÷ floor's",
        "rate ÷ native",
        "rate ÷ other mode",
        "rate ÷ Bento *",
        "peak MiB",
        "not 2xx",
    ];
    println!("\n| {} |\n|{}", head.join(" | "), "---|".repeat(head.len()));
    for case in cases {
        println!("| {} |", cells(case, &rows).join(" | "));
    }
    println!(
        "\nIn parentheses: the goal, and ✗ where it is missed. Other mode: `embedded` for `stored`, `stored` for `down`. \
         * Bento 1.20 as a share of the floor's rate on 2026-11-25, times the floor's rate now."
    );
}

impl Rows<'_> {
    fn median(&self, name: &str, figure: impl Fn(&Row) -> f64) -> Option<f64> {
        median(self.all, name, figure)
    }

    /// The most that the median answer takes with one connection.
    fn most_p50(&self, mode: Mode, to: To) -> Option<f64> {
        let p50 = |name: &str| self.median(name, |row| row.p50_ms);
        let commit = || Some((p50("nothing-embedded")? - p50("nothing-memory")?).max(0.0));
        let confirm = || if to.broker().is_some() { p50(&format!("native-{}", to.name())) } else { Some(0.0) };
        let (confirm, commit) = match mode {
            Mode::Memory => (confirm()?, 0.0),
            Mode::Embedded => (confirm()?, commit()?),
            Mode::Stored | Mode::Down => (0.0, commit()?),
        };
        Some(confirm + commit + goals::MOST_OF_OUR_OWN_MS)
    }
}

fn cells(case: &Case, rows: &Rows<'_>) -> Vec<String> {
    let name = &case.name;
    let rates = sorted(rows.all, name, |row| row.rate);
    let (Some(rate), Some(least), Some(most)) = (rows.median(name, |row| row.rate), rates.first(), rates.last()) else {
        return vec![name.clone()];
    };
    let at_most = |aim: Option<Aim>, figure: fn(&Row) -> f64, digits, most: Option<f64>| {
        let has_goal = matches!(case.server, Server::Bridge(_)) && aim.is_none_or(|aim| aim == rows.aim);
        with_goal(rows.median(name, figure), most.filter(|_| has_goal), digits, "≤", |value, goal| value <= goal)
    };
    let most_p50 = match case.server {
        Server::Bridge(mode) => rows.most_p50(mode, case.to),
        Server::Floor | Server::Native => None,
    };
    let (most_mib, connections) = goals::MOST_MIB;
    let most_mib = Some(most_mib).filter(|_| rows.connections <= connections);
    let failed: u64 = rows.all.iter().filter(|row| row.name == *name).map(Row::failed).sum();
    let mut cells = vec![
        name.clone(),
        format!("{rate:.0} ({least:.0}–{most:.0})"),
        at_most(Some(Aim::Median), |row| row.p50_ms, 2, most_p50),
        at_most(Some(Aim::Tail), |row| row.p99_ms, 1, Some(goals::MOST_P99_MS)),
        at_most(Some(Aim::Tail), |row| row.p999_ms, 1, Some(goals::MOST_P999_MS)),
        at_most(None, |row| row.cpu_s_per_1000, 4, None),
    ];
    cells.extend(ratios(case, rows, rate));
    cells.extend([at_most(None, |row| row.peak_mib, 0, most_mib), failed.to_string()]);
    cells
}

/// CPU time to the floor's; the rate to the native client's, to that of another mode, and to Bento's.
fn ratios(case: &Case, rows: &Rows<'_>, rate: f64) -> [String; 4] {
    let (Server::Bridge(mode), to) = (case.server, case.to) else { return [const { String::new() }; 4] };
    if rows.aim != Aim::Rate {
        return [const { String::new() }; 4];
    }
    let rate_of = |name: &str| rows.median(name, |row| row.rate);
    let cpu_of = |name: &str| rows.median(name, |row| row.cpu_s_per_1000);
    let over = |other: Option<f64>| other.map(|other| rate / other);
    let cpu = cpu_of(&case.name).zip(cpu_of("floor")).map(|(cpu, floor)| cpu / floor);
    let native = if to == To::Nothing { None } else { over(rate_of(&format!("native-{}", to.name()))) };
    let other = goals::least_of_other(to, mode);
    let to_other = other.and_then(|(other, _)| over(rate_of(&format!("{}-{}", to.name(), other.name()))));
    let bento = over(goals::bento_of_floor(to).zip(rate_of("floor")).map(|(share, floor)| share * floor));
    let at_least = |value, goal| with_goal(value, goal, 2, "≥", |value, goal| value >= goal);
    [
        with_goal(cpu, goals::most_cpu(to, mode), 2, "≤", |value, goal| value <= goal),
        at_least(native, goals::least_of_native(to, mode)),
        at_least(to_other, other.map(|(_, least)| least)),
        at_least(bento, goals::least_of_bento(to, mode)),
    ]
}

fn with_goal(value: Option<f64>, goal: Option<f64>, digits: usize, sign: &str, holds: fn(f64, f64) -> bool) -> String {
    match (value, goal) {
        (None, _) => String::new(),
        (Some(value), None) => format!("{value:.digits$}"),
        (Some(value), Some(goal)) => {
            // A goal that is the sum of other medians has as few digits.
            let goal_text = ((goal * 100.0).round() / 100.0).to_string();
            format!("{value:.digits$} ({sign} {goal_text}){}", if holds(value, goal) { "" } else { " ✗" })
        }
    }
}
