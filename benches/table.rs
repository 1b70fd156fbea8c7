//! Goals, figures and whether they meet.

use std::fmt;

/// All figures of a run, in the order that they were measured in.
#[derive(Default)]
pub struct Table(Vec<Row>);

struct Row {
    goal: String,
    figure: String,
    /// `None`: measured to be known, without a goal.
    met: Option<bool>,
}

impl Table {
    /// A figure that has a goal.
    pub fn goal(&mut self, goal: impl Into<String>, figure: impl Into<String>, met: bool) {
        self.push(Row { goal: goal.into(), figure: figure.into(), met: Some(met) });
    }

    /// A figure that explains others.
    pub fn note(&mut self, what: impl Into<String>, figure: impl Into<String>) {
        self.push(Row { goal: what.into(), figure: figure.into(), met: None });
    }

    fn push(&mut self, row: Row) {
        eprintln!("bench: {row}");
        self.0.push(row);
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let met = match self.met {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        write!(f, "| {} | {} | {met} |", self.goal, self.figure)
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
