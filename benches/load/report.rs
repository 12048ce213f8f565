//! Figures, as text and as JSON.

use serde_json::{Value, json};

/// One figure.
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// The circumstances.
    pub(crate) remark: String,
}

/// The figures of a run.
#[derive(Default)]
pub(crate) struct Report {
    figures: Vec<Figure>,
}

impl Report {
    /// Adds a figure, and prints it on standard error immediately: a run takes minutes.
    pub(crate) fn add(
        &mut self,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        remark: impl Into<String>,
    ) {
        let figure = Figure {
            name: name.into(),
            value,
            unit,
            remark: remark.into(),
        };
        eprintln!("{}", line(&figure));
        self.figures.push(figure);
    }

    pub(crate) fn table(&self) -> String {
        let lines: Vec<_> = self.figures.iter().map(line).collect();
        lines.join("\n") + "\n"
    }

    pub(crate) fn json(&self, is_quick: bool) -> Value {
        let figure = |figure: &Figure| {
            let Figure {
                name,
                value,
                unit,
                remark,
            } = figure;
            json!({ "name": name, "value": value, "unit": unit, "remark": remark })
        };
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "executable": std::env::var("EXECUTABLE").ok(),
            "quick": is_quick,
            "cores": std::thread::available_parallelism().map_or(0, usize::from),
            "figures": self.figures.iter().map(figure).collect::<Vec<_>>(),
        })
    }
}

fn line(figure: &Figure) -> String {
    let Figure {
        name,
        value,
        unit,
        remark,
    } = figure;
    let value = if *value < 1_000.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.0}")
    };
    format!("{name:<24} {value:>10} {unit:<24} {remark}")
}
