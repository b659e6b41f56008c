//! What was measured: every value kept, medians and ratios worked out of them, printed as markdown
//! and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::variant::{Kind, Variant};

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
}

/// One row of the table.
#[derive(Clone, Debug)]
struct Figure {
    section: &'static str,
    name: String,
    unit: &'static str,
    better: Better,
    values: Vec<Measured>,
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    variant: &'static str,
    repetition: u32,
    value: f64,
}

/// How quiet the machine was during one variant of one repetition.
#[derive(Clone, Debug)]
pub(crate) struct Noise {
    pub(crate) variant: &'static str,
    pub(crate) repetition: u32,
    /// Of 1, 5 and 15 minutes, before it began.
    pub(crate) load_averages: String,
    /// Share of all cores used by neither broker nor clients, the kernel's own threads included.
    pub(crate) other_percent: f64,
    /// Share of all cores the host took away.
    pub(crate) stolen_percent: f64,
}

/// Everything measured so far.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    figures: Vec<Figure>,
    noise: Vec<Noise>,
    failures: Vec<String>,
}

/// Where the values of one variant of one repetition go.
#[derive(Debug)]
pub(crate) struct Sheet<'a> {
    pub(crate) figures: &'a mut Figures,
    pub(crate) variant: &'static str,
    pub(crate) repetition: u32,
}

/// The row a value belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    pub(crate) section: &'static str,
    pub(crate) name: &'a str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
}

impl Sheet<'_> {
    pub(crate) fn add(&mut self, row: Row<'_>, value: f64) {
        let measured = Measured { variant: self.variant, repetition: self.repetition, value };
        let same = |figure: &&mut Figure| {
            figure.section == row.section && figure.name == row.name && figure.unit == row.unit
        };
        if let Some(figure) = self.figures.figures.iter_mut().find(same) {
            figure.values.push(measured);
        } else {
            self.figures.figures.push(Figure {
                section: row.section,
                name: row.name.to_owned(),
                unit: row.unit,
                better: row.better,
                values: vec![measured],
            });
        }
    }

    pub(crate) fn fail(&mut self, scenario: &str, error: &dyn std::error::Error) {
        self.figures
            .failures
            .push(format!("{}, repetition {}, {scenario}: {error}", self.variant, self.repetition));
    }

    pub(crate) fn noise(&mut self, noise: Noise) {
        self.figures.noise.push(noise);
    }
}

impl Figure {
    fn of(&self, variant: &str) -> Vec<f64> {
        self.values.iter().filter(|at| at.variant == variant).map(|at| at.value).collect()
    }

    /// The median of the ratios within each repetition, not the ratio of the medians: what slowed
    /// a whole repetition down cancels out.
    fn ratio(&self, variant: &str, reference: &str) -> Option<f64> {
        let of = |name: &str, repetition: u32| {
            let mut values = self.values.iter();
            values.find(|at| at.variant == name && at.repetition == repetition).map(|at| at.value)
        };
        let ratios = self.values.iter().filter(|at| at.variant == variant).filter_map(|at| {
            let reference = of(reference, at.repetition)?;
            (reference > 0.0).then(|| at.value / reference)
        });
        median(&ratios.collect::<Vec<_>>())
    }
}

impl Figures {
    pub(crate) fn failures(&self) -> &[String] {
        &self.failures
    }

    pub(crate) fn markdown(&self, variants: &[Variant]) -> String {
        let mut text = String::new();
        let reference = reference(variants);
        let mut section = "";
        let mut sections: Vec<&str> = Vec::new();
        for figure in &self.figures {
            if !sections.contains(&figure.section) {
                sections.push(figure.section);
            }
        }
        let ordered = sections
            .iter()
            .flat_map(|name| self.figures.iter().filter(move |figure| figure.section == *name));
        for figure in ordered {
            if figure.section != section {
                section = figure.section;
                heading(&mut text, section, variants, reference);
            }
            let sign = if figure.better == Better::More { "↑" } else { "↓" };
            let _infallible = write!(text, "| {}, {} {sign} |", figure.name, figure.unit);
            for variant in variants {
                let _infallible = write!(text, " {} |", spread(&figure.of(variant.name)));
                if let Some(reference) = reference.filter(|name| *name != variant.name) {
                    let ratio = figure.ratio(variant.name, reference);
                    let ratio = ratio.map_or("–".to_owned(), times);
                    let _infallible = write!(text, " {ratio} |");
                }
            }
            text.push('\n');
        }
        text.push_str(
            "\nThe machine during each run (repetition, variant: load averages before it, ",
        );
        text.push_str("share of all cores used by others and by the kernel's threads, share taken by the host):\n\n");
        for noise in &self.noise {
            let Noise { variant, repetition, load_averages, other_percent, stolen_percent } = noise;
            let _infallible = writeln!(
                text,
                "- {repetition}, {variant}: {load_averages}; {other_percent:.0} %; {stolen_percent:.1} %"
            );
        }
        for failure in &self.failures {
            let _infallible = writeln!(text, "\nFAILED: {failure}");
        }
        text
    }

    pub(crate) fn json(&self, variants: &[Variant], about: Value) -> Value {
        let figures: Vec<Value> =
            self.figures.iter().map(|figure| figure_json(figure, variants)).collect();
        let noise: Vec<Value> = self
            .noise
            .iter()
            .map(|noise| {
                json!({
                    "variant": noise.variant,
                    "repetition": noise.repetition,
                    "load_averages": noise.load_averages,
                    "other_percent": noise.other_percent,
                    "stolen_percent": noise.stolen_percent,
                })
            })
            .collect();
        json!({ "about": about, "figures": figures, "noise": noise, "failures": self.failures })
    }
}

fn figure_json(figure: &Figure, variants: &[Variant]) -> Value {
    let per_variant: serde_json::Map<String, Value> = variants
        .iter()
        .filter(|variant| figure.values.iter().any(|at| at.variant == variant.name))
        .map(|variant| {
            let values = figure.of(variant.name);
            let ratio = reference(variants).and_then(|name| figure.ratio(variant.name, name));
            let all = json!({ "median": median(&values), "values": values, "ratio": ratio });
            (variant.name.to_owned(), all)
        })
        .collect();
    json!({
        "section": figure.section,
        "name": figure.name,
        "unit": figure.unit,
        "better": if figure.better == Better::More { "more" } else { "less" },
        "variants": per_variant,
    })
}

fn heading(text: &mut String, section: &str, variants: &[Variant], reference: Option<&str>) {
    let _infallible = write!(text, "\n### {section}\n\n| |");
    let mut rule = "|---|".to_owned();
    for variant in variants {
        let _infallible = write!(text, " {} |", variant.name);
        rule.push_str("---:|");
        if reference.is_some_and(|name| name != variant.name) {
            text.push_str(" ratio |");
            rule.push_str("---:|");
        }
    }
    let _infallible = writeln!(text, "\n{rule}");
}

/// What the others are divided by, if it is there.
fn reference(variants: &[Variant]) -> Option<&'static str> {
    variants.iter().find(|variant| variant.kind == Kind::Kafka).map(|variant| variant.name)
}

/// The median, with the least and the most where there is more than one value.
fn spread(values: &[f64]) -> String {
    let Some(middle) = median(values) else { return "–".to_owned() };
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if values.len() == 1 {
        return short(middle);
    }
    format!("{} ({}–{})", short(middle), short(least), short(most))
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(upper, *sorted.get(sorted.len() / 2 - 1)?))
}

/// A ratio; far below one, how far is the point.
fn times(ratio: f64) -> String {
    if ratio < 0.095 { format!("{ratio:.4}×") } else { format!("{ratio:.2}×") }
}

/// Three digits that mean something.
fn short(value: f64) -> String {
    match value {
        large if large >= 9_999.5 => format!("{:.0}k", large / 1000.0),
        large if large >= 99.95 => format!("{large:.0}"),
        middle if middle >= 9.995 => format!("{middle:.1}"),
        small if small >= 0.0995 => format!("{small:.2}"),
        tiny => format!("{tiny:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variant::VARIANTS;

    const ROW: Row<'_> =
        Row { section: "Produce", name: "1 KiB", unit: "records/s", better: Better::More };

    #[test]
    fn ratio_is_the_median_over_repetitions() {
        let mut figures = Figures::default();
        let [group, _, kafka] = VARIANTS.map(|variant| variant.name);
        for (repetition, ours, theirs) in [(1, 20.0, 10.0), (2, 3.0, 1.0), (3, 400.0, 100.0)] {
            Sheet { figures: &mut figures, variant: group, repetition }.add(ROW, ours);
            Sheet { figures: &mut figures, variant: kafka, repetition }.add(ROW, theirs);
        }
        assert_eq!(figures.figures[0].ratio(group, kafka), Some(3.0));
        let table = figures.markdown(&VARIANTS);
        assert!(table.contains("| 20.0 (3.00–400) | 3.00× | – | – | 10.0 (1.00–100) |"), "{table}");
    }

    #[test]
    fn a_repetition_without_reference_has_no_ratio() {
        let mut figures = Figures::default();
        let [group, _, kafka] = VARIANTS.map(|variant| variant.name);
        Sheet { figures: &mut figures, variant: group, repetition: 1 }.add(ROW, 5.0);
        Sheet { figures: &mut figures, variant: kafka, repetition: 2 }.add(ROW, 5.0);
        assert_eq!(figures.figures[0].ratio(group, kafka), None);
    }

    #[test]
    fn median_of_an_even_count_is_between_the_two() {
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
        assert_eq!(median(&[]), None);
    }
}
