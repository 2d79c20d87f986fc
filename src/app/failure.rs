//! What went wrong, as the user reads it.

use std::fmt;

/// An error as the user reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorText {
    /// One sentence: what is wrong.
    pub what: String,
    /// One sentence: what to do about it.
    pub advice: String,
}

impl ErrorText {
    /// Makes both into sentences: a full stop at the end, control characters gone, so that a
    /// hostile name cannot write over a terminal.
    pub fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: sentence(&what.into()), advice: sentence(&advice.into()) }
    }
}

impl fmt::Display for ErrorText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.advice.is_empty() {
            true => f.write_str(&self.what),
            false => write!(f, "{} {}", self.what, self.advice),
        }
    }
}

/// An error with whose fault it is, which decides the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub text: ErrorText,
    /// What was handed to us is at fault (exit code 2), not the program or the machine (1).
    pub input: bool,
}

impl Failure {
    /// The fault of what was opened.
    pub fn input(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { text: ErrorText::new(what, advice), input: true }
    }

    /// Anything else.
    pub fn machine(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { text: ErrorText::new(what, advice), input: false }
    }

    /// 2 for bad input, 1 for the rest.
    pub fn exit_code(&self) -> u8 {
        if self.input { 2 } else { 1 }
    }
}

/// Longer than this no error says anything more.
const SENTENCE_MAX: usize = 600;

/// One line that ends like a sentence; empty stays empty.
pub fn sentence(text: &str) -> String {
    let mut s = one_line(text, SENTENCE_MAX);
    if !s.is_empty() && !s.ends_with(['.', '!', '?', '…']) {
        s.push('.');
    }
    s
}

/// A sentence as the second half of another: without its full stop, and without the capital it began with.
pub fn clause(text: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    let mut chars = text.chars();
    match (chars.next(), chars.clone().next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

/// Without control characters and runs of blanks, cut to at most `max` characters.
pub fn one_line(text: &str, max: usize) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() || is_bidi_control(c) { ' ' } else { c }).collect();
    let joined = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    match joined.char_indices().nth(max) {
        Some((cut, _)) => format!("{}…", joined.get(..cut).unwrap_or_default()),
        None => joined,
    }
}

/// Characters that make what follows read backwards: a name must not disguise itself.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_sentences_on_one_line() {
        assert_eq!(sentence("not a\ttorrent\u{1b}[31m"), "not a torrent [31m.");
        assert_eq!(sentence("film.mp4 is a folder"), "film.mp4 is a folder.");
        assert_eq!(sentence(""), "");
        assert_eq!(clause("The torrent holds no data."), "the torrent holds no data");
        assert_eq!(clause("SHA-1 differs"), "SHA-1 differs");
        assert_eq!(one_line(&"x".repeat(1000), 10).chars().count(), 11);
    }
}
