//! Finds every path a Rust source file names, as far as layers go: `use` trees opened up, `super` resolved.
//!
//! Invariant: comments and literals never count, and a path is found wherever it stands, not only in a `use`.

/// One path with the line it stands on. `crate` paths start with `crate`; a glob ends in `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    pub line: usize,
    pub path: Vec<String>,
    /// Followed by `!`: a macro call.
    pub is_macro: bool,
}

/// Words that may stand right before a path that begins with `::`.
const KEYWORDS: &[&str] =
    &["use", "pub", "in", "return", "as", "mut", "dyn", "impl", "for", "where", "match", "if", "else", "break"];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `::`
    Sep,
    Char(char),
}

/// All paths in `source`, a file whose own module is `module` (`["ui", "panel"]`; empty for the crate's root).
pub fn paths(source: &str, module: &[&str]) -> Vec<Named> {
    let tokens = lex(source);
    let mut scopes: Vec<Option<String>> = Vec::new();
    let mut out = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        match &tokens[i].1 {
            Token::Char('{') => {
                let is_module = i >= 2 && word(&tokens, i - 2) == Some("mod");
                scopes.push(is_module.then(|| word(&tokens, i - 1).unwrap_or_default().to_owned()));
            }
            Token::Char('}') => {
                scopes.pop();
            }
            // `use ::std::thread`: the word before the path is no part of it.
            Token::Word(w) if KEYWORDS.contains(&w.as_str()) => {}
            Token::Word(_) => {
                let inline = scopes.iter().flatten().map(String::as_str);
                let here: Vec<&str> = module.iter().copied().chain(inline).collect();
                let mut found = Vec::new();
                let end = tree(&tokens, i, &mut Vec::new(), &mut found);
                let is_macro = matches!(tokens.get(end), Some((_, Token::Char('!'))));
                out.extend(found.into_iter().map(|(line, path)| Named { line, path: resolve(path, &here), is_macro }));
                i = end;
                continue;
            }
            _ => {}
        }
        i += 1;
    }
    out
}

fn word(tokens: &[(usize, Token)], i: usize) -> Option<&str> {
    match tokens.get(i) {
        Some((_, Token::Word(w))) => Some(w),
        _ => None,
    }
}

/// Reads `a::b::{c, d::*}` from `i` and appends each full path; gives the index after it.
fn tree(
    tokens: &[(usize, Token)],
    mut i: usize,
    prefix: &mut Vec<String>,
    out: &mut Vec<(usize, Vec<String>)>,
) -> usize {
    let depth = prefix.len();
    let mut line = tokens.get(i).map_or(0, |t| t.0);
    loop {
        match tokens.get(i) {
            Some((l, Token::Word(w))) => {
                line = *l;
                // `a::{self}` names `a` itself.
                if w != "self" || prefix.is_empty() {
                    prefix.push(w.clone());
                }
                i += 1;
            }
            Some((l, Token::Char('*'))) => {
                line = *l;
                prefix.push("*".to_owned());
                i += 1;
                break;
            }
            Some((_, Token::Char('{'))) => {
                i += 1;
                loop {
                    match tokens.get(i) {
                        Some((_, Token::Char('}'))) => break i += 1,
                        Some((_, Token::Word(_) | Token::Char('*' | '{'))) => i = tree(tokens, i, prefix, out),
                        Some(_) => i += 1,
                        None => break,
                    }
                }
                prefix.truncate(depth);
                return i;
            }
            _ => break,
        }
        let goes_on = matches!(tokens.get(i), Some((_, Token::Sep)))
            && matches!(tokens.get(i + 1), Some((_, Token::Word(_) | Token::Char('*' | '{'))));
        if !goes_on {
            break;
        }
        i += 1;
    }
    out.push((line, prefix.clone()));
    prefix.truncate(depth);
    i.max(1)
}

/// Turns `super` and `self` at the front into a path from `crate`.
fn resolve(path: Vec<String>, here: &[&str]) -> Vec<String> {
    let up = path.iter().take_while(|w| *w == "super" || *w == "self").filter(|w| *w == "super").count();
    let rest = path.iter().skip_while(|w| *w == "super" || *w == "self");
    if path.first().is_none_or(|w| w != "super" && w != "self") {
        return path;
    }
    let kept = here.len().saturating_sub(up);
    std::iter::once("crate").chain(here[..kept].iter().copied()).map(str::to_owned).chain(rest.cloned()).collect()
}

/// Words, `::` and single characters, with comments and literals left out.
fn lex(source: &str) -> Vec<(usize, Token)> {
    let c: Vec<char> = source.chars().collect();
    let at = |i: usize| c.get(i).copied().unwrap_or('\0');
    let (mut i, mut line) = (0, 1);
    let mut out = Vec::new();
    while i < c.len() {
        let from = i;
        let (ch, next) = (at(i), at(i + 1));
        if ch == '/' && next == '/' {
            while i < c.len() && at(i) != '\n' {
                i += 1;
            }
        } else if ch == '/' && next == '*' {
            let mut depth = 0;
            loop {
                match (at(i), at(i + 1)) {
                    ('/', '*') => (depth, i) = (depth + 1, i + 2),
                    ('*', '/') => (depth, i) = (depth - 1, i + 2),
                    _ => i += 1,
                }
                if depth == 0 || i >= c.len() {
                    break;
                }
            }
        } else if let Some(end) = literal_end(&c, i) {
            i = end;
        } else if ch == '_' || ch.is_alphanumeric() {
            while at(i) == '_' || at(i).is_alphanumeric() {
                i += 1;
            }
            out.push((line, Token::Word(c[from..i].iter().collect())));
        } else if ch == ':' && next == ':' {
            i += 2;
            out.push((line, Token::Sep));
        } else {
            i += 1;
            if !ch.is_whitespace() {
                out.push((line, Token::Char(ch)));
            }
        }
        line += c[from..i.min(c.len())].iter().filter(|x| **x == '\n').count();
    }
    out
}

/// The index after the string, character or lifetime that starts at `i`, if one does.
fn literal_end(c: &[char], i: usize) -> Option<usize> {
    let at = |i: usize| c.get(i).copied().unwrap_or('\0');
    let mut j = i;
    // b"…", c"…", r"…", br#"…"#, r#ident is none of them.
    while j < i + 2 && matches!(at(j), 'b' | 'c' | 'r') {
        j += 1;
    }
    let raw = j > i && c[i..j].contains(&'r');
    let hashes = if raw { c[j..].iter().take_while(|x| **x == '#').count() } else { 0 };
    if at(j + hashes) == '"' {
        j += hashes + 1;
        while j < c.len() {
            if !raw && at(j) == '\\' {
                j += 2;
                continue;
            }
            let closes = at(j) == '"' && c[j + 1..].iter().take(hashes).filter(|x| **x == '#').count() == hashes;
            j += 1;
            if closes {
                return Some(j + hashes);
            }
        }
        return Some(c.len());
    }
    let quote = if at(i) == 'b' && at(i + 1) == '\'' { i + 1 } else { i };
    if at(quote) != '\'' {
        return None;
    }
    if at(quote + 1) == '\\' {
        let close = c[quote + 3..].iter().position(|x| *x == '\'')?;
        return Some(quote + 3 + close + 1);
    }
    // 'x' is a character; 'x without a closing quote is a lifetime.
    Some(if at(quote + 2) == '\'' { quote + 3 } else { quote + 1 })
}
