//! Reads Rust source well enough to see what it names: tokens without comments and literals, and the paths that begin at the crate's root.

/// One word or sign of code. Literals are left out but for the empty place where they stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token<'a> {
    /// Its line, from 1.
    pub(super) line: usize,
    /// The word, `::`, or a single sign; empty for a literal.
    pub(super) text: &'a str,
}

/// The tokens of a file.
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = vec![];
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let (length, kind) = next(rest, first);
        match kind {
            Kind::Nothing => {}
            Kind::Code => tokens.push(Token {
                line,
                text: &rest[..length],
            }),
            Kind::Literal => tokens.push(Token { line, text: "" }),
        }
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// How many lines have code on them.
pub(super) fn code_lines(text: &str) -> usize {
    let (mut rest, mut line, mut counted, mut count) = (text, 1, 0, 0);
    while let Some(first) = rest.chars().next() {
        let (length, kind) = next(rest, first);
        let last = line + rest[..length].matches('\n').count();
        if !matches!(kind, Kind::Nothing) {
            // A literal counts with every line it takes.
            count += last - line + usize::from(counted < line);
            counted = last;
        }
        line = last;
        rest = &rest[length..];
    }
    count
}

enum Kind {
    /// White space or a comment.
    Nothing,
    Code,
    Literal,
}

/// The length and kind of what `rest` begins with; `first` is its first character.
fn next(rest: &str, first: char) -> (usize, Kind) {
    let word = |s: &str| {
        s.find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(s.len())
    };
    if first.is_whitespace() {
        (first.len_utf8(), Kind::Nothing)
    } else if rest.starts_with("//") {
        (rest.find('\n').unwrap_or(rest.len()), Kind::Nothing)
    } else if rest.starts_with("/*") {
        (block_comment(rest), Kind::Nothing)
    } else if let Some(length) = literal(rest) {
        (length, Kind::Literal)
    } else if let Some(name) = rest.strip_prefix('\'') {
        (1 + word(name), Kind::Literal) // a lifetime
    } else if first.is_alphanumeric() || first == '_' {
        (word(rest), Kind::Code)
    } else if rest.starts_with("::") {
        (2, Kind::Code)
    } else {
        (first.len_utf8(), Kind::Code)
    }
}

/// The length of a comment that may have others inside.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of the string or character that `text` begins with.
fn literal(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|p| {
        let after = text.strip_prefix(p).unwrap_or_default();
        after.starts_with(['"', '\'']) || (p.ends_with('r') && after.starts_with("#"))
    })?;
    let body = &text[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        // `r#type` is a word that would otherwise be a keyword.
        let inside = body[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
        return Some(prefix.len() + hashes + 1 + length);
    }
    let quote = body.chars().next()?;
    let mut characters = body.char_indices().skip(1);
    let mut count = 0;
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => drop(characters.next()),
            c if c == quote => return Some(prefix.len() + at + 1),
            // One character and no quote after it: a lifetime.
            _ if quote == '\'' && count == 1 && !body[1..].starts_with('\\') => return None,
            _ => {}
        }
        count += 1;
    }
    (quote == '"').then_some(text.len())
}

/// The first names of every path that begins at the crate's root, in the file at `path` below `src`: `kafka` for `crate::kafka::x`,
/// for `use crate::{kafka, ..}` and for as many `super` as lead there. `*` for everything at once.
pub(super) fn root_imports(path: &str, tokens: &[Token<'_>]) -> Vec<(usize, String)> {
    let mut found = vec![];
    let mut depths = Depths::of(path);
    let mut previous = "";
    for (at, token) in tokens.iter().enumerate() {
        depths.step(tokens, at);
        let rest = &tokens[at + 1..];
        match token.text {
            "crate" | "postrider" => found.extend(heads(rest)),
            // The first of a chain; the others are followed from there.
            "super" if previous != "::" => found.extend(climb(rest, depths.here() - 1)),
            _ => {}
        }
        previous = token.text;
    }
    found
}

/// Follows what comes after a `super`, with `left` more to go to the root.
fn climb(rest: &[Token<'_>], left: usize) -> Vec<(usize, String)> {
    if left == 0 {
        return heads(rest);
    }
    let mut found = vec![];
    for (at, head) in head_positions(rest) {
        if head.text == "super" {
            found.extend(climb(&rest[at + 1..], left - 1));
        }
    }
    found
}

/// The names that come next: one after `::`, or those at the top of a group.
pub(super) fn heads(rest: &[Token<'_>]) -> Vec<(usize, String)> {
    let named = |(_, token): (usize, Token<'_>)| (token.line, token.text.to_owned());
    head_positions(rest)
        .into_iter()
        .map(named)
        .filter(|(_, name)| name != "self")
        .collect()
}

fn head_positions<'a>(rest: &[Token<'a>]) -> Vec<(usize, Token<'a>)> {
    let text = |at: usize| rest.get(at).map_or("", |t| t.text);
    if text(0) != "::" {
        return vec![];
    }
    if text(1) != "{" {
        return rest.get(1).map(|token| (1, *token)).into_iter().collect();
    }
    let (mut found, mut depth) = (vec![], 0);
    for (at, token) in rest.iter().enumerate().skip(1) {
        match token.text {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && matches!(text(at - 1), "{" | ",") && token.text != "}" {
            found.push((at, *token));
        }
    }
    found
}

/// How far below the root the code is: by the file, and by the modules inside it.
struct Depths {
    file: usize,
    braces: usize,
    modules: Vec<usize>,
}

impl Depths {
    fn of(path: &str) -> Self {
        let names = path.split('/').count();
        let is_folder = path.ends_with("/mod.rs");
        let is_root = matches!(path, "lib.rs" | "main.rs");
        let file = if is_folder || is_root {
            names - 1
        } else {
            names
        };
        Self {
            file,
            braces: 0,
            modules: vec![],
        }
    }

    fn step(&mut self, tokens: &[Token<'_>], at: usize) {
        match tokens[at].text {
            "{" => {
                self.braces += 1;
                if at >= 2 && tokens[at - 2].text == "mod" {
                    self.modules.push(self.braces);
                }
            }
            "}" => {
                self.modules.retain(|depth| *depth < self.braces);
                self.braces = self.braces.saturating_sub(1);
            }
            _ => {}
        }
    }

    /// At least 1: a `super` at the root does not compile.
    fn here(&self) -> usize {
        (self.file + self.modules.len()).max(1)
    }
}
