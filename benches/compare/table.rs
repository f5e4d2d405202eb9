//! The medians and the ratios, as a table in Markdown.

use super::case::{Case, Mode, Server};
use super::goals;
use super::load::Load;
use super::row::Row;

/// The load decides which figures have goals and are shown: at a fixed rate the tail, with one connection the median,
/// otherwise rates and CPU time.
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
    for (number, case) in cases.iter().enumerate() {
        let (head, cells): (Vec<&str>, Vec<String>) = cells(case, &rows).into_iter().unzip();
        if number == 0 {
            println!("\n| {} |\n|{}", head.join(" | "), "---|".repeat(head.len()));
        }
        println!("| {} |", cells.join(" | "));
    }
    println!("\nIn parentheses: the goal, and ✗ where it is missed.");
    if aim == Aim::Rate {
        println!(
            "Other mode: `embedded` for `stored`, `stored` for `down`.\n* Bento 1.20 as a share of the floor's rate on \
             2026-11-25, times the floor's rate now."
        );
    }
}

impl Rows<'_> {
    fn median(&self, name: &str, figure: impl Fn(&Row) -> f64) -> Option<f64> {
        median(self.all, name, figure)
    }

    /// Most p50 with one connection.
    fn most_p50(&self, case: &Case) -> Option<f64> {
        let (Server::Bridge(mode), to) = (case.server, case.to) else { return None };
        let p50 = |name: &str| self.median(name, |row| row.p50_ms);
        let commit = || Some((p50("nothing-embedded")? - p50("nothing-memory")?).max(0.0));
        let confirm = || if to.broker().is_some() { p50(&format!("native-{}", to.name())) } else { Some(0.0) };
        let (confirm, commit) = match mode {
            Mode::Memory => (confirm()?, 0.0),
            Mode::Embedded => (confirm()?, commit()?),
            Mode::Stored | Mode::Down => (0.0, commit()?),
        };
        Some(confirm + commit + goals::MOST_OVERHEAD_MS)
    }
}

/// A cell, and the head of its column.
type Cell = (&'static str, String);

fn cells(case: &Case, rows: &Rows<'_>) -> Vec<Cell> {
    let name = &case.name;
    let plain = |figure: fn(&Row) -> f64, digits| with_goal(rows.median(name, figure), None, digits, Goal::AtMost);
    let at_most = |figure: fn(&Row) -> f64, digits, most: Option<f64>| {
        let most = most.filter(|_| matches!(case.server, Server::Bridge(_)));
        with_goal(rows.median(name, figure), most, digits, Goal::AtMost)
    };
    let rate = match &*sorted(rows.all, name, |row| row.rate) {
        [least, .., most] => format!("{} ({least:.0}–{most:.0})", plain(|row| row.rate, 0)),
        _ => plain(|row| row.rate, 0),
    };
    let mut cells = vec![("", name.clone()), ("deliveries/s (range)", rate)];
    match rows.aim {
        Aim::Rate => {
            cells.push(("CPU s / 1,000", plain(|row| row.cpu_s_per_1000, 4)));
            cells.extend(ratios(case, rows));
            cells.extend([("p50 ms", plain(|row| row.p50_ms, 2)), ("p99 ms", plain(|row| row.p99_ms, 1))]);
        }
        Aim::Median => {
            cells.push(("CPU s / 1,000", plain(|row| row.cpu_s_per_1000, 4)));
            cells.push(("p50 ms", at_most(|row| row.p50_ms, 2, rows.most_p50(case))));
            cells.push(("p99 ms", plain(|row| row.p99_ms, 1)));
        }
        Aim::Tail => {
            cells.push(("p50 ms", plain(|row| row.p50_ms, 2)));
            cells.push(("p99 ms", at_most(|row| row.p99_ms, 1, Some(goals::MOST_P99_MS))));
            cells.push(("p99.9 ms", at_most(|row| row.p999_ms, 1, Some(goals::MOST_P999_MS))));
        }
    }
    let (most_mib, connections) = goals::MOST_MIB;
    let most_mib = Some(most_mib).filter(|_| rows.connections <= connections);
    let failed: u64 = rows.all.iter().filter(|row| row.name == *name).map(Row::failed).sum();
    cells.extend([("peak MiB", at_most(|row| row.peak_mib, 0, most_mib)), ("not 2xx", failed.to_string())]);
    cells
}

/// CPU time to the floor's; the rate to the native client's, to that of another mode, and to Bento's.
fn ratios(case: &Case, rows: &Rows<'_>) -> [Cell; 4] {
    let mut cells =
        ["CPU ÷ floor's", "rate ÷ native", "rate ÷ other mode", "rate ÷ Bento *"].map(|head| (head, String::new()));
    let (Server::Bridge(mode), to) = (case.server, case.to) else { return cells };
    let ratio = |figure: fn(&Row) -> f64, other: &str| {
        rows.median(&case.name, figure).zip(rows.median(other, figure)).map(|(own, other)| own / other)
    };
    let rate_to = |other: &str| ratio(|row| row.rate, other);
    let other = goals::least_of_other(to, mode);
    let to_other = other.and_then(|(other, _)| rate_to(&format!("{}-{}", to.name(), other.name())));
    let to_bento = rate_to("floor").zip(goals::bento_of_floor(to)).map(|(to_floor, bento)| to_floor / bento);
    let values = [
        with_goal(ratio(|row| row.cpu_s_per_1000, "floor"), goals::most_cpu(to, mode), 2, Goal::AtMost),
        with_goal(rate_to(&format!("native-{}", to.name())), goals::least_of_native(to, mode), 2, Goal::AtLeast),
        with_goal(to_other, other.map(|(_, least)| least), 2, Goal::AtLeast),
        with_goal(to_bento, goals::least_of_bento(to, mode), 2, Goal::AtLeast),
    ];
    for (cell, value) in cells.iter_mut().zip(values) {
        cell.1 = value;
    }
    cells
}

#[derive(Clone, Copy)]
enum Goal {
    AtMost,
    AtLeast,
}

fn with_goal(value: Option<f64>, goal: Option<f64>, digits: usize, kind: Goal) -> String {
    match (value, goal) {
        (None, _) => String::new(),
        (Some(value), None) => format!("{value:.digits$}"),
        (Some(value), Some(goal)) => {
            let (sign, is_met) = match kind {
                Goal::AtMost => ("≤", value <= goal),
                Goal::AtLeast => ("≥", value >= goal),
            };
            // A goal that is the sum of other medians has as few digits.
            let goal = (goal * 100.0).round() / 100.0;
            format!("{value:.digits$} ({sign} {goal}){}", if is_met { "" } else { " ✗" })
        }
    }
}
