//! Just enough of a lexer: comments and the insides of strings become spaces, so that a search finds code
//! only, and lines keep their numbers.

/// The text with comments, strings and character literals blanked. Newlines stay, and every other character
/// becomes one space, so that places in the result are places in the text, counted in characters.
pub(super) fn code_only(text: &str) -> Vec<char> {
    let mut code: Vec<char> = text.chars().collect();
    let mut at = 0;
    while at < code.len() {
        let end = match code[at] {
            '/' if code.get(at + 1) == Some(&'/') => line_end(&code, at),
            '/' if code.get(at + 1) == Some(&'*') => block_comment_end(&code, at),
            '"' => string_end(&code, at),
            'r' if !in_word(&code, at) => raw_string_end(&code, at),
            '\'' => char_end(&code, at),
            _ => at,
        };
        for blank in &mut code[at..end] {
            if *blank != '\n' {
                *blank = ' ';
            }
        }
        at = end.max(at + 1);
    }
    code
}

fn line_end(code: &[char], at: usize) -> usize {
    code[at..].iter().position(|c| *c == '\n').map_or(code.len(), |length| at + length)
}

/// Block comments nest in Rust.
fn block_comment_end(code: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0, at);
    while i < code.len() {
        match (code[i], code.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 1),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 1),
            _ => {}
        }
        i += 1;
        if depth == 0 {
            return i;
        }
    }
    code.len()
}

fn string_end(code: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < code.len() {
        match code[i] {
            '\\' => i += 1,
            '"' => return i + 1,
            _ => {}
        }
        i += 1;
    }
    code.len()
}

/// `at` is on an `r` that begins a word: the end of a raw string, or `at` when it is none. The `r` of `br`
/// stands in a word, but there the quote is met next and the common case (no hashes) ends where it should.
fn raw_string_end(code: &[char], at: usize) -> usize {
    let hashes = code[at + 1..].iter().take_while(|c| **c == '#').count();
    if code.get(at + 1 + hashes) != Some(&'"') {
        return at;
    }
    let mut i = at + 2 + hashes;
    while i < code.len() {
        if code[i] == '"' && code[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes {
            return i + 1 + hashes;
        }
        i += 1;
    }
    code.len()
}

/// A character literal, or `at` when the quote begins a lifetime.
fn char_end(code: &[char], at: usize) -> usize {
    match (code.get(at + 1), code.get(at + 2)) {
        (Some('\\'), _) => {
            // The character after the backslash may be a quote itself.
            let close = code.iter().skip(at + 3).position(|c| *c == '\'');
            close.map_or(code.len(), |length| at + 3 + length + 1)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether the character before `at` makes it the inside of a word; `b` and `c` are string prefixes.
fn in_word(code: &[char], at: usize) -> bool {
    let Some(before) = at.checked_sub(1).map(|i| code[i]) else { return false };
    let prefix = (before == 'b' || before == 'c') && (at < 2 || !is_word(code[at - 2]));
    is_word(before) && !prefix
}

/// The places where `word` stands as a word of its own.
pub(super) fn words<'a>(code: &'a [char], word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let wanted: Vec<char> = word.chars().collect();
    (0..code.len()).filter(move |at| {
        code[*at..].starts_with(&wanted)
            && !at.checked_sub(1).is_some_and(|i| is_word(code[i]))
            && !code.get(at + wanted.len()).is_some_and(|c| is_word(*c))
    })
}

/// The identifier that begins at `at`, possibly empty.
pub(super) fn word_at(code: &[char], at: usize) -> String {
    code.iter().skip(at).take_while(|c| is_word(**c)).collect()
}

/// The first place from `at` on that is no white space.
pub(super) fn skip_space(code: &[char], at: usize) -> usize {
    at + code.iter().skip(at).take_while(|c| c.is_whitespace()).count()
}

/// Lines are counted from one.
pub(super) fn line_of(code: &[char], at: usize) -> usize {
    1 + code[..at].iter().filter(|c| **c == '\n').count()
}

/// The place of the brace that closes the one at `open`.
pub(super) fn closing(code: &[char], open: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code.iter().enumerate().skip(open) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    code.len().saturating_sub(1)
}

/// Where the body of the item at `at` opens; `None` when it ends with a semicolon first. Semicolons inside
/// brackets belong to array types.
pub(super) fn body(code: &[char], at: usize) -> Option<usize> {
    let mut depth = 0;
    for (place, c) in code.iter().enumerate().skip(at) {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' if depth == 0 => return Some(place),
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blanked(text: &str) -> String {
        code_only(text).into_iter().collect()
    }

    #[test]
    fn comments_and_strings_become_spaces() {
        assert_eq!(blanked("a // b\nc"), "a     \nc");
        assert_eq!(blanked("a /* b /* c */ d */ e"), "a                   e");
        assert_eq!(blanked(r#"f("x \" {", y)"#), "f(        , y)");
        assert_eq!(blanked("g(r#\"{ \"q\" \"#, z)"), "g(           , z)");
        assert_eq!(blanked("br##\"{\"#\"##;r\"}\";"), "b          ;    ;");
    }

    #[test]
    fn character_literals_go_and_lifetimes_stay() {
        assert_eq!(blanked(r"m('{', '\'', '\u{7f}', b'}')"), "m(   ,     ,         , b   )");
        assert_eq!(blanked("fn f<'a>(x: &'a str) {}"), "fn f<'a>(x: &'a str) {}");
    }

    #[test]
    fn a_comment_mark_in_a_string_is_no_comment() {
        assert_eq!(blanked("x(\"//\"); y"), "x(    ); y");
    }

    #[test]
    fn words_stand_alone() {
        let code = code_only("unsafe_code unsafe; xunsafe");
        assert_eq!(words(&code, "unsafe").collect::<Vec<_>>(), [12]);
    }

    #[test]
    fn bodies_are_found_past_array_types() {
        let code = code_only("fn f(x: [u8; 4]) -> [u8; 2] { {} }");
        let open = body(&code, 0).unwrap();
        assert_eq!((open, closing(&code, open)), (28, 33));
        assert_eq!(body(&code_only("fn f(x: [u8; 4]);"), 0), None);
    }
}
