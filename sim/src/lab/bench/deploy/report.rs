//! The result for people and for programs.

use serde::Serialize;
use serde_json::{Value, json};

use super::marks::{FIGURES, Marks};
use crate::lab::bench::facts::Facts;
use crate::lab::bench::statistics::Summary;

/// Who deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Chain {
    Farrier,
    Stock,
}

impl Chain {
    pub(super) fn name(self) -> &'static str {
        match self {
            Chain::Farrier => "farrier",
            Chain::Stock => "stock",
        }
    }
}

/// One measured deploy.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Measured {
    pub(super) chain: Chain,
    pub(super) firmware: &'static str,
    /// One-minute load average of the machine when it began.
    pub(super) load: f64,
    #[serde(flatten)]
    pub(super) marks: Marks,
    /// Farrier's steps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) steps: Vec<StepTime>,
}

/// A step, in seconds since the request.
#[derive(Debug, Clone, Serialize)]
pub(super) struct StepTime {
    pub(super) name: String,
    pub(super) start: f64,
    pub(super) seconds: f64,
}

/// All of them.
pub(super) struct Report {
    pub(super) image: &'static str,
    pub(super) command: String,
    pub(super) facts: Facts,
    pub(super) ramdisk_bytes: [(Chain, u64); 2],
    pub(super) measured: Vec<Measured>,
}

impl Report {
    pub(super) fn markdown(&self) -> String {
        let mut text = format!("`{}`: {}\n", self.command, self.facts.render());
        let sizes =
            self.ramdisk_bytes.map(|(chain, bytes)| format!("{} {:.1} MiB", chain.name(), mib(bytes)));
        if let Some(load) = Summary::of(self.measured.iter().map(|m| m.load)) {
            text.push_str(&format!(
                "Load average before the deploys: median {:.1}, highest {:.1}. Ramdisks: {}.\n",
                load.median,
                load.max,
                sizes.join(", ")
            ));
        }
        let mut firmwares: Vec<&str> = self.measured.iter().map(|m| m.firmware).collect();
        firmwares.dedup();
        for firmware in firmwares {
            let runs = self.of(firmware, Chain::Farrier).count();
            text.push_str(&format!(
                "\n{firmware}, {}: seconds, median (lowest–highest) of {runs} deploys each\n\n\
                 | | Farrier | stock chain | Farrier ÷ stock |\n|---|---|---|---|\n",
                self.image
            ));
            for figure in FIGURES {
                let summary = |chain| Summary::of(self.of(firmware, chain).map(|m| (figure.of)(&m.marks)));
                let (Some(ours), Some(theirs)) = (summary(Chain::Farrier), summary(Chain::Stock)) else {
                    continue;
                };
                text.push_str(&format!(
                    "| {} | {} | {} | {} |\n",
                    figure.name,
                    cell(ours),
                    cell(theirs),
                    ratio(ours.median, theirs.median)
                ));
            }
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        json!({ "image": self.image, "command": self.command, "facts": self.facts, "deploys": self.measured })
    }

    fn of(&self, firmware: &str, chain: Chain) -> impl Iterator<Item = &Measured> {
        self.measured.iter().filter(move |m| m.firmware == firmware && m.chain == chain)
    }
}

fn cell(summary: Summary) -> String {
    format!("{:.2} ({:.2}–{:.2})", summary.median, summary.min, summary.max)
}

/// Two short times have no ratio worth printing.
fn ratio(ours: f64, theirs: f64) -> String {
    if theirs < 0.05 { "–".to_owned() } else { format!("{:.2}", ours / theirs) }
}

#[allow(clippy::cast_precision_loss, reason = "a size for people")]
fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
