//! The one place that chooses kernel variants, from what an adapter can do and never from who made it, and lets people
//! choose others.
//!
//! ```
//! use lowland::ops::KernelChoice;
//! let kernel_choice: KernelChoice = "linear=direct,attention_vjp=row".parse().unwrap();
//! assert_eq!(kernel_choice.to_string(), "linear=direct,attention_vjp=row");
//! assert!("linear=fast".parse::<KernelChoice>().unwrap_err().to_string().contains("tiled"));
//! ```

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::variant_table::{AttentionVariant, Family, Kind, Lack, LinearVariant, LstmVariant, Row, Sums};
use crate::gpu::Capabilities;

/// The variants of all kernels for one adapter: a row of the table for each operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Variants {
    /// Number of the row, by the operations' order.
    rows: [u8; Family::ALL.len()],
}

impl Variants {
    /// The variants for an adapter: of each operation the first preferred one that it can run.
    pub fn choose(caps: &Capabilities) -> Variants {
        let mut chosen = Variants { rows: [0; Family::ALL.len()] };
        for operation in Family::ALL {
            let rows = operation.rows();
            let find = |name: &&str| rows.iter().position(|row| row.name == *name && row.missing(caps).is_none());
            let row = operation.preferred(caps.software).iter().find_map(find);
            chosen.rows[operation as usize] = row.expect("the last preferred variant needs nothing") as u8;
        }
        chosen
    }

    /// The same for runs of many steps: variants that compute the same numbers, bit for bit, and take longer to compile
    /// for running sooner.
    pub fn for_long(caps: &Capabilities) -> Variants {
        Family::ALL.into_iter().fold(Variants::choose(caps), |all, operation| {
            let fits = |name: &&str| {
                let row = operation.rows().iter().find(|row| row.name == *name);
                row.expect("a row of the table").missing(caps).is_none()
            };
            match operation.preferred_for_long().iter().copied().find(fits) {
                Some(name) => all.with(operation, name).expect("a row of the table"),
                None => all,
            }
        })
    }

    /// The same with plain variants in place of those for long runs: the numbers are the same bits, and the kernels are
    /// ready sooner.
    pub fn for_short(self) -> Variants {
        Family::ALL.into_iter().fold(self, |all, operation| {
            let (row, long) = (all.row(operation), operation.preferred_for_long());
            let plain = |other: &&Row| !long.contains(&other.name) && other.lanes() == row.lanes();
            match operation.rows().iter().find(plain).filter(|_| long.contains(&row.name)) {
                Some(plain) => all.with(operation, plain.name).expect("a row of the table"),
                None => all,
            }
        })
    }

    /// The same where an adapter can run them, with plain variants in place of those for long runs that it cannot run:
    /// the numbers are the same bits.
    pub fn runnable(self, caps: &Capabilities) -> Option<Variants> {
        let plain = Variants::choose(caps);
        let whole = Family::ALL.into_iter().fold(self, |all, operation| {
            let row = all.row(operation);
            let for_long = operation.preferred_for_long().contains(&row.name);
            match for_long && row.missing(caps).is_some() && row.lanes() == plain.row(operation).lanes() {
                true => all.with(operation, plain.row(operation).name).expect("a row of the table"),
                false => all,
            }
        });
        whole.missing(caps).is_none().then_some(whole)
    }

    /// The same with products of mixed precision.
    ///
    /// # Errors
    /// What the adapter lacks for them.
    pub fn mixed(self, caps: &Capabilities) -> Result<Variants, Lack> {
        let mut lack = None;
        for row in Family::LinearNt.rows().iter().filter(|row| row.mixed()) {
            match row.missing(caps) {
                Some(missing) => lack = lack.or(Some(missing)),
                None => {
                    let products = Family::named("linear").into_iter();
                    return Ok(products.fold(self, |all, o| all.with(o, row.name).expect("a row of the table")));
                }
            }
        }
        Err(lack.expect("the table has products of mixed precision"))
    }

    /// Whether some operation is of mixed precision.
    pub fn is_mixed(&self) -> bool {
        Family::ALL.into_iter().any(|o| self.row(o).mixed())
    }

    /// Variants that between them hold every f32 row that an adapter can run, the choice for it first: for tests and
    /// `selftest`.
    pub fn all(caps: &Capabilities) -> Vec<Variants> {
        Variants::cover(Variants::choose(caps), |row| row.missing(caps).is_none() && !row.mixed())
    }

    /// The same with every row of the table, whether or not an adapter can run it: for looking at the kernels' text.
    pub fn every(caps: &Capabilities) -> Vec<Variants> {
        Variants::cover(Variants::choose(caps), |_| true)
    }

    /// Number n takes the n-th row of every operation, of those that have fewer the last one; sums are cut as short as
    /// they come, so that each kernel is seen with many parts.
    fn cover(chosen: Variants, fits: impl Fn(&Row) -> bool) -> Vec<Variants> {
        let usable = |operation: Family| -> Vec<u8> {
            let rows = operation.rows().iter().enumerate();
            rows.filter(|(_, row)| fits(row)).map(|(i, _)| i as u8).collect()
        };
        let most = Family::ALL.into_iter().map(|o| usable(o).len()).max().unwrap_or(0);
        let mut all: Vec<Variants> = vec![chosen];
        for sums in usable(Family::Sums) {
            let mut variants = chosen;
            variants.rows[Family::Sums as usize] = sums;
            if !all.contains(&variants) {
                all.push(variants);
            }
        }
        for n in 0..most {
            let mut variants = chosen;
            for operation in Family::ALL {
                let rows = usable(operation);
                let number = if operation == Family::Sums { rows.len() - 1 } else { n.min(rows.len() - 1) };
                variants.rows[operation as usize] = rows[number];
            }
            if !all.contains(&variants) {
                all.push(variants);
            }
        }
        all
    }

    /// The row of an operation.
    pub fn row(&self, operation: Family) -> &'static Row {
        &operation.rows()[usize::from(self.rows[operation as usize])]
    }

    /// The same with another row of one operation, by its name; `None` when the table has no such row.
    pub fn with(mut self, operation: Family, name: &str) -> Option<Variants> {
        self.rows[operation as usize] = operation.rows().iter().position(|row| row.name == name)? as u8;
        Some(self)
    }

    /// What an adapter lacks for one of them.
    pub fn missing(&self, caps: &Capabilities) -> Option<String> {
        Family::ALL.into_iter().find_map(|operation| {
            let row = self.row(operation);
            row.missing(caps).map(|why| format!("{}={}: {why}", operation.name(), row.name))
        })
    }

    /// How products of one layout run.
    pub fn linear(&self, operation: Family) -> LinearVariant {
        match self.row(operation).kind {
            Kind::Linear(variant) => variant,
            other => unreachable!("{operation:?} is no product: {other:?}"),
        }
    }

    /// Lanes of a subgroup where results are stored a lane after another's, as products do, by operations that come in
    /// no variants, and the vec4 from which on they are.
    pub fn lanes_apart(&self) -> Option<(u32, u64)> {
        match self.linear(Family::LinearNt) {
            LinearVariant::Uniform(lanes) => Some((lanes, self.sums().apart)),
            _ => None,
        }
    }

    /// How a rule of attention runs.
    pub fn attention(&self, operation: Family) -> AttentionVariant {
        match self.row(operation).kind {
            Kind::Attention(variant) => variant,
            other => unreachable!("{operation:?} is no attention: {other:?}"),
        }
    }

    /// How an LSTM goes through time.
    pub fn lstm(&self) -> LstmVariant {
        match self.row(Family::Lstm).kind {
            Kind::Lstm(variant) => variant,
            other => unreachable!("the table of LSTMs holds {other:?}"),
        }
    }

    /// Invocations that share a row in layer norm or cross-entropy.
    pub fn row_lanes(&self, operation: Family) -> u32 {
        match self.row(operation).kind {
            Kind::RowLanes(lanes) => lanes,
            Kind::RowSubgroup(_) | Kind::RowUniform(_) => 1,
            other => unreachable!("{operation:?} is no operation on rows: {other:?}"),
        }
    }

    /// How long sums are cut.
    pub fn sums(&self) -> Sums {
        match self.row(Family::Sums).kind {
            Kind::Sums(sums) => sums,
            other => unreachable!("the table of sums holds {other:?}"),
        }
    }
}

/// `linear_nt=tiled linear_nn=tiled ...`
impl fmt::Display for Variants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, operation) in Family::ALL.into_iter().enumerate() {
            let gap = if i == 0 { "" } else { " " };
            write!(f, "{gap}{}={}", operation.name(), self.row(operation).name)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Variants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A map from operation to variant, by name.
impl Serialize for Variants {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(Family::ALL.into_iter().map(|o| (o.name(), self.row(o).name)))
    }
}

impl<'de> Deserialize<'de> for Variants {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let names = BTreeMap::<String, String>::deserialize(deserializer)?;
        let mut variants = Variants { rows: [0; Family::ALL.len()] };
        for operation in Family::ALL {
            let name =
                names.get(operation.name()).ok_or_else(|| D::Error::custom(format!("no {}", operation.name())))?;
            let unknown = || D::Error::custom(format!("`{name}` is no variant of {}", operation.name()));
            variants = variants.with(operation, name).ok_or_else(unknown)?;
        }
        Ok(variants)
    }
}

/// Why kernel variants cannot be those that were asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VariantError {
    /// A part of the text that is no pair.
    #[error("`{0}`: write `OPERATION=VARIANT`, as `linear=tiled`")]
    Form(String),
    /// No operation of the table has this name.
    #[error("`{0}` has no variants; these have: linear, attention (all of their kind), {names}", names = every_name())]
    Operation(String),
    /// The operation has no such variant.
    #[error("`{variant}` is no variant of {operation}; one of: {}", known.join(", "))]
    Variant {
        /// An operation or a family of them.
        operation: String,
        /// What was asked for.
        variant: String,
        /// The variants that it has.
        known: Vec<&'static str>,
    },
    /// The adapter cannot run it.
    #[error("{operation}={variant} cannot run here: {lack}")]
    Adapter {
        /// An operation or a family of them.
        operation: String,
        /// What was asked for.
        variant: String,
        /// What the adapter lacks.
        lack: Lack,
    },
}

fn every_name() -> String {
    Family::ALL.map(Family::name).join(", ")
}

/// Variants that someone asked for: `linear=tiled,attention=row`. Names are checked when they are read, against an
/// adapter when they are [applied](KernelChoice::apply).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelChoice {
    asked: Vec<(String, String)>,
    place: &'static str,
}

impl Default for KernelChoice {
    fn default() -> KernelChoice {
        KernelChoice { asked: vec![], place: "kernel variants" }
    }
}

impl KernelChoice {
    /// The same, asked for at this place (a flag, a key of a config), which errors name.
    pub fn asked_at(self, place: &'static str) -> KernelChoice {
        KernelChoice { place, ..self }
    }

    /// Where it was asked for.
    pub fn place(&self) -> &'static str {
        self.place
    }

    /// Asks for one more: the variant of an operation or of a family of them.
    ///
    /// # Errors
    /// A name that is not in the table.
    pub fn add(&mut self, operation: &str, variant: &str) -> Result<(), VariantError> {
        let operations = Family::named(operation);
        let Some(first) = operations.first() else {
            return Err(VariantError::Operation(operation.into()));
        };
        if !first.rows().iter().any(|row| row.name == variant) {
            let known = first.rows().iter().map(|row| row.name).collect();
            return Err(VariantError::Variant { operation: operation.into(), variant: variant.into(), known });
        }
        self.asked.push((operation.to_string(), variant.to_string()));
        Ok(())
    }

    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// Puts what was asked for into the place of what was chosen.
    ///
    /// # Errors
    /// One that the adapter cannot run.
    pub fn apply(&self, mut variants: Variants, caps: &Capabilities) -> Result<Variants, VariantError> {
        for (name, variant) in &self.asked {
            for operation in Family::named(name) {
                variants = variants.with(operation, variant).expect("names were checked");
                if let Some(lack) = variants.row(operation).missing(caps) {
                    return Err(VariantError::Adapter { operation: name.clone(), variant: variant.clone(), lack });
                }
            }
        }
        Ok(variants)
    }
}

impl std::str::FromStr for KernelChoice {
    type Err = VariantError;

    fn from_str(text: &str) -> Result<Self, VariantError> {
        let mut kernel_choice = KernelChoice::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (operation, variant) = part.split_once('=').ok_or_else(|| VariantError::Form(part.into()))?;
            kernel_choice.add(operation.trim(), variant.trim())?;
        }
        Ok(kernel_choice)
    }
}

impl fmt::Display for KernelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.asked.iter().map(|(o, v)| format!("{o}={v}")).collect();
        f.write_str(&parts.join(","))
    }
}
