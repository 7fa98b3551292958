//! Tables of the page.

use super::super::html::escape;

/// A table with a head; columns from `paper` on are the paper's.
pub struct Grid {
    pub head: Vec<String>,
    pub rows: Vec<Vec<String>>,
    /// Number of columns at the right that are the paper's.
    pub paper: usize,
}

impl Grid {
    pub fn new(head: &[&str]) -> Grid {
        Grid { head: head.iter().map(|h| h.to_string()).collect(), rows: Vec::new(), paper: 0 }
    }

    pub fn html(&self) -> String {
        let first = self.head.len() - self.paper;
        let class = |i: usize| if i >= first { " class=\"paper\"" } else { "" };
        let cells = |row: &[String], name: &str| -> String {
            let cell = |(i, text): (usize, &String)| format!("<{name}{}>{}</{name}>", class(i), escape(text));
            row.iter().enumerate().map(cell).collect()
        };
        let rows: String = self.rows.iter().map(|r| format!("<tr>{}</tr>\n", cells(r, "td"))).collect();
        format!(
            "<div class=\"wide\"><table class=\"grid\">\n<tr>{}</tr>\n{rows}</table></div>\n",
            cells(&self.head, "th")
        )
    }
}

/// A number with three digits that count, whole ones whole; with a proper minus.
pub fn number(value: f64) -> String {
    let magnitude = if value == 0.0 || !value.is_finite() { 0 } else { libm::floor(libm::log10(value.abs())) as i32 };
    let text = match magnitude {
        -4..=5 => format!("{value:.*}", (2 - magnitude).max(0) as usize),
        _ => format!("{value:.2e}"),
    };
    text.replace('-', "−")
}

/// A number with `digits` digits behind the point, and a proper minus.
pub fn fixed(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    // Not "-0.00".
    let zero = text.trim_start_matches('-').chars().all(|c| c == '0' || c == '.');
    if zero { text.trim_start_matches('-').into() } else { text.replace('-', "−") }
}
