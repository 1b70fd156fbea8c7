//! Goals, figures and whether they meet.

use std::fmt;

/// All figures of a run, in the order that they were measured in.
#[derive(Default)]
pub struct Table(Vec<Row>);

struct Row {
    goal: String,
    figure: String,
    verdict: &'static str,
}

/// What a figure must be, and what it better were.
#[derive(Clone, Copy)]
pub enum Aim {
    /// At least the first, better the second.
    AtLeast(f64, f64),
    /// At most the first, better the second.
    AtMost(f64, f64),
}

impl Aim {
    fn verdict(self, figure: f64) -> &'static str {
        let (must, reach) = match self {
            Self::AtLeast(must, reach) => (figure >= must, figure >= reach),
            Self::AtMost(must, reach) => (figure <= must, figure <= reach),
        };
        match (must, reach) {
            (true, true) => "yes, and better",
            (true, false) => "yes",
            (false, _) => "NO",
        }
    }
}

impl Table {
    /// A figure that has a goal.
    pub fn goal(&mut self, goal: impl Into<String>, figure: impl Into<String>, met: bool) {
        self.push(Row { goal: goal.into(), figure: figure.into(), verdict: if met { "yes" } else { "NO" } });
    }

    /// A figure that has a goal and something better to reach for, each of them `unit`; `value` is what counts of it.
    pub fn aim(&mut self, what: impl fmt::Display, aim: Aim, unit: &str, figure: impl Into<String>, value: f64) {
        let (sign, (must, reach)) = match aim {
            Aim::AtLeast(must, reach) => ('≥', (must, reach)),
            Aim::AtMost(must, reach) => ('≤', (must, reach)),
        };
        let goal = format!("{what}: {sign} {must}{unit}, better {reach}{unit}");
        self.push(Row { goal, figure: figure.into(), verdict: aim.verdict(value) });
    }

    /// A figure that explains others.
    pub fn note(&mut self, what: impl Into<String>, figure: impl Into<String>) {
        self.push(Row { goal: what.into(), figure: figure.into(), verdict: "" });
    }

    fn push(&mut self, row: Row) {
        eprintln!("bench: {row}");
        self.0.push(row);
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| {} | {} | {} |", self.goal, self.figure, self.verdict)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| goal | measured | met |\n|---|---|---|")?;
        self.0.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

/// The middle one.
pub fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// The median and the range around it.
pub fn spread(figures: &[f64]) -> String {
    spread_to(2, figures)
}

/// The same in whole numbers.
pub fn spread_whole(figures: &[f64]) -> String {
    spread_to(0, figures)
}

fn spread_to(digits: usize, figures: &[f64]) -> String {
    let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
    let most = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{:.digits$} ({least:.digits$}–{most:.digits$})", median(figures))
}
