//! Ways in turn, each with the flood and without it.

use std::time::Duration;

use super::load::{Load, Round};
use super::support::report::{Report, percentile};
use super::support::rounds::quartiles;
use super::ways::Way;

/// Of the seven: milliseconds of all rounds, and the ratio in each pair of rounds. Of the eighth: how
/// many it had answered in a second. Of all: connections that were opened in a second.
const HEAD: &str = "  \
    without         |with            |p99: with to without  |the      |opened      |\n  \
        p50     p99 |    p50     p99 |median (quartiles)    |eighth's |without with|";

/// What a flood may do to the others.
#[derive(Clone, Copy)]
pub enum Bound {
    /// So many times what it is without.
    Limit(f64),
    /// It is printed, and that is all.
    None,
}

/// All rounds of one way.
#[derive(Default)]
struct Rounds {
    without: Vec<Round>,
    with: Vec<Round>,
}

pub async fn compare(report: &mut Report, title: &str, load: Load, ways: &[(Way, Bound)]) {
    let turns = report.effort(1, 5, 30);
    let length = Duration::from_millis(report.effort(100, 1_000, 2_000) as u64);
    let mut found: Vec<Rounds> = ways.iter().map(|_| Rounds::default()).collect();
    for turn in 0..turns {
        for place in 0..ways.len() {
            // Whoever comes first in a turn is not always the same.
            let which = (turn + place) % ways.len();
            let (way, _) = &ways[which];
            for floods in [turn % 2 == 0, turn % 2 == 1] {
                let round = load.round(way, floods, length).await;
                match floods {
                    true => found[which].with.push(round),
                    false => found[which].without.push(round),
                }
            }
        }
    }
    report.add(&format!(
        "{title}\n  `{}`, 7 tenants every {:?}; {turns} rounds of {length:?} without and with {} \
         requests of the eighth under way\n{HEAD}",
        load.statement, load.period, load.flood,
    ));
    let mut verdicts = Vec::new();
    for ((way, bound), rounds) in ways.iter().zip(&found) {
        let [low, median, high] = quartiles(&rounds.ratios());
        let [without, with] = [&rounds.without, &rounds.with].map(|rounds| percentiles(rounds));
        let flood: f64 = rounds.with.iter().map(|round| round.flood).sum();
        let opened = [&rounds.without, &rounds.with].map(|rounds| opened(rounds));
        let ratio = format!("{median:.2}x ({low:.2} to {high:.2})");
        report.line(&format!(
            "  {:7.2} {:7.2}  {:7.2} {:7.2}  {ratio:22} {:8.0}  {} {}  {}",
            without[0],
            without[1],
            with[0],
            with[1],
            flood / turns as f64,
            opened[0],
            opened[1],
            way.name,
        ));
        if let Bound::Limit(most) = *bound {
            verdicts.push((median, most, way.name));
        }
    }
    for (median, most, name) in verdicts {
        report.limit(
            median,
            most,
            &format!("times the p99 without a flood: {name}"),
        );
    }
}

impl Rounds {
    /// A machine that was slower for a while was so for both.
    fn ratios(&self) -> Vec<f64> {
        let pairs = self.with.iter().zip(&self.without);
        let ratios = pairs.map(|(with, without)| {
            percentile(&with.quiet, 99.0) / percentile(&without.quiet, 99.0)
        });
        ratios.collect()
    }
}

/// Of all rounds together.
fn percentiles(rounds: &[Round]) -> [f64; 2] {
    let all: Vec<f64> = rounds
        .iter()
        .flat_map(|round| round.quiet.clone())
        .collect();
    [50.0, 99.0].map(|percent| percentile(&all, percent))
}

fn opened(rounds: &[Round]) -> String {
    let opened: Option<f64> = rounds.iter().map(|round| round.opened).sum();
    opened.map_or_else(
        || "    -".to_owned(),
        |opened| format!("{:5.1}", opened / rounds.len() as f64),
    )
}
