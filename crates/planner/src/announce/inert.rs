//! Text of a repository, made harmless: it mentions nobody, links nowhere, and is no markup.

/// The longest text of one line, in characters.
const LINE: usize = 100;
/// The longest block, in lines and in characters of one.
const BLOCK: (usize, usize) = (30, 400);
/// Stands unseen between two characters that would mean something together.
const JOINT: char = '\u{200b}';

/// One line of text within markdown, in a table too.
#[must_use]
pub fn text(foreign: &str) -> String {
    let mut inert = String::new();
    for c in foreign.chars().filter(|c| is_shown(*c)).map(|c| if c.is_whitespace() { ' ' } else { c }).take(LINE) {
        match c {
            '&' => inert.push_str("&amp;"),
            '<' => inert.push_str("&lt;"),
            '>' => inert.push_str("&gt;"),
            '@' | '#' => inert.extend([c, JOINT]),
            // Of `https://`, `www.` and `GH-7`.
            ':' | '/' | '-' => inert.extend(['\\', c, JOINT]),
            c if c.is_ascii_punctuation() => inert.extend(['\\', c, JOINT]),
            c => inert.push(c),
        }
    }
    inert
}

/// Lines as they are, in a block that they cannot end.
#[must_use]
pub fn block(foreign: &str) -> String {
    let clean = |line: &str| line.chars().filter(|c| is_shown(*c) || *c == '\t').take(BLOCK.1).collect::<String>();
    let lines: Vec<String> = foreign.lines().map(clean).collect();
    let kept = &lines[lines.len().saturating_sub(BLOCK.0)..];
    let longest = kept.iter().flat_map(|line| line.split(|c| c != '`')).map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}text\n{}\n{fence}", kept.join("\n"))
}

/// Neither a control character nor one that turns the direction of others.
fn is_shown(c: char) -> bool {
    let turns = matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    !turns && (!c.is_control() || c == '\n')
}
