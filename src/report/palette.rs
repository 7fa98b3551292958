//! The one palette of pages and figures: every colour by its role, for light and for dark.

/// A colour by its role. A page gives it a value for light and for dark; a file has the light one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    Text,
    Muted,
    Grid,
    /// The colour of what stands behind the series.
    Pale,
    /// The ground of a figure or card.
    Card,
    /// The ground of the page.
    Paper,
    /// The colour of a series, by its number; there are eight.
    Series(usize),
}

const ROLES: [Ink; 6] = [Ink::Text, Ink::Muted, Ink::Grid, Ink::Pale, Ink::Card, Ink::Paper];

/// Light and dark, as 0xRRGGBB.
const SERIES: [[u32; 2]; 8] = [
    [0x0b6e8f, 0x58b8d8],
    [0xc2571a, 0xe88a4f],
    [0x4f7d2a, 0x93c26a],
    [0x7b4fa3, 0xb996db],
    [0x8a6d00, 0xd9b93f],
    [0xb82f6d, 0xea7bad],
    [0x3d4c63, 0xa9b8d0],
    [0x128c7a, 0x4fd0bb],
];

impl Ink {
    /// Light and dark, as 0xRRGGBB.
    fn values(self) -> [u32; 2] {
        match self {
            Ink::Text => [0x1c2430, 0xe8e6e1],
            Ink::Muted => [0x4d5868, 0x9aa5b5],
            Ink::Grid => [0xe3e1da, 0x2c3441],
            Ink::Pale => [0xb9c6d6, 0x48566a],
            Ink::Card => [0xffffff, 0x1b212b],
            Ink::Paper => [0xfbfaf7, 0x14181f],
            Ink::Series(i) => SERIES[i % SERIES.len()],
        }
    }

    fn name(self) -> String {
        match self {
            Ink::Text => "--text".into(),
            Ink::Muted => "--muted".into(),
            Ink::Grid => "--grid".into(),
            Ink::Pale => "--pale".into(),
            Ink::Card => "--card".into(),
            Ink::Paper => "--paper".into(),
            Ink::Series(i) => format!("--ink{}", i % SERIES.len() + 1),
        }
    }

    /// The page's variable, `var(--text)`.
    pub fn variable(self) -> String {
        format!("var({})", self.name())
    }

    /// The light colour, `#1c2430`.
    pub fn hex(self) -> String {
        format!("#{:06x}", self.values()[0])
    }

    /// Red, green and blue of the light colour.
    pub fn rgb(self) -> [u8; 3] {
        let [_, red, green, blue] = self.values()[0].to_be_bytes();
        [red, green, blue]
    }
}

/// The variables of a page, for light and for dark.
pub fn css() -> String {
    let block = |dark: usize| -> String {
        let inks = ROLES.into_iter().chain((0..SERIES.len()).map(Ink::Series));
        inks.map(|ink| format!(" {}: #{:06x};", ink.name(), ink.values()[dark])).collect()
    };
    let (light, dark) = (block(0), block(1));
    format!("\n:root {{{light} }}\n@media (prefers-color-scheme: dark) {{ :root {{{dark} }} }}")
}
