//! Types that hold secrets print themselves by hand: a derived `Debug` would show all they have.

use super::text::{body, closing, code_only, line_of, skip_space, word_at, words};

/// Parts of names that suggest a secret: of types, as a word in camel case.
const TYPE_WORDS: [&str; 8] =
    ["Secret", "Password", "Passphrase", "Credential", "Token", "Login", "PrivateKey", "Keys"];

/// And of fields, as a whole name or the end of one.
const FIELD_WORDS: [&str; 9] = [
    "secret",
    "password",
    "passphrase",
    "credentials",
    "token",
    "login",
    "private_key",
    "secret_access_key",
    "hmac",
];

/// Types of fields that show what is in them.
const OPEN_TYPES: [&str; 5] = ["String", "Str", "str", "Bytes", "u8"];

/// Types that derive `Debug` and, by their name or a field's, hold a secret that it would show.
pub(super) fn derived_debug(path: &str, text: &str) -> Vec<String> {
    let code = code_only(text);
    let mut complaints = Vec::new();
    for at in words(&code, "derive") {
        let Some(end) = code.iter().skip(at).position(|c| *c == ']').map(|length| at + length) else {
            continue;
        };
        if words(&code[at..end], "Debug").next().is_none() {
            continue;
        }
        let Some((name, place)) = item_after(&code, end) else { continue };
        let line = line_of(&code, place);
        if TYPE_WORDS.iter().any(|word| has_camel_word(&name, word)) {
            complaints.push(format!("{path}:{line}: {name} derives Debug, and by its name holds a secret"));
        }
        let Some(open) = body(&code, place) else { continue };
        for field in open_fields(&code[open + 1..closing(&code, open)]) {
            complaints.push(format!("{path}:{line}: {name} derives Debug, which would show its {field}"));
        }
    }
    complaints
}

/// The name and the place of the struct or enum that follows, past other attributes and `pub`.
fn item_after(code: &[char], at: usize) -> Option<(String, usize)> {
    let place = ["struct", "enum"].iter().filter_map(|kind| words(&code[at..], kind).next()).min()? + at;
    let name = skip_space(code, place + word_at(code, place).len());
    Some((word_at(code, name), name))
}

/// Whether `word` stands in `name` as one of its words: `Keys` in `ScramKeys`, `Token` in `MskToken`, but not
/// `Token` in `Tokenizer`.
fn has_camel_word(name: &str, word: &str) -> bool {
    name.match_indices(word).any(|(at, _)| {
        let after = name[at + word.len()..].trim_start_matches('s');
        after.is_empty() || after.starts_with(|c: char| c.is_uppercase())
    })
}

/// The fields of a body that suggest a secret by name and show it by type.
fn open_fields(body: &[char]) -> Vec<String> {
    let mut found = Vec::new();
    for at in 0..body.len() {
        let name = word_at(body, at);
        let begins = at == 0 || !body[at - 1].is_alphanumeric() && body[at - 1] != '_';
        let suggests = |word: &str| name == word || name.ends_with(&format!("_{word}"));
        if !begins || name.is_empty() || !FIELD_WORDS.iter().any(|word| suggests(word)) {
            continue;
        }
        let after = skip_space(body, at + name.chars().count());
        if body.get(after) != Some(&':') {
            continue;
        }
        let ty: Vec<char> = body[after..].iter().copied().take_while(|c| *c != ',').collect();
        if OPEN_TYPES.iter().any(|open| words(&ty, open).next().is_some()) {
            found.push(name);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_would_be_shown_is_caught() {
        for planted in [
            "#[derive(Debug)]\nstruct Password(String);",
            "#[derive(Clone, Debug, PartialEq)] pub(crate) struct UserCredentials { id: u8 }",
            "#[derive(Clone, std::fmt::Debug)]\n#[non_exhaustive]\npub enum AccessToken { A(String) }",
            "#[derive(Debug)] struct ScramKeys;",
            "#[derive(Debug)] struct Login { password: String }",
            "#[derive(Debug)]\nstruct Config {\n    user: String,\n    client_secret: Option<String>,\n}",
            "#[derive(Debug)] pub struct Config { pub token: Vec<u8>, }",
            "#[derive(Debug)] pub enum Auth { Basic { user: String, password: Box<str> } }",
        ] {
            assert!(!derived_debug("a.rs", planted).is_empty(), "{planted}");
        }
        let planted = "\n#[derive(Debug)]\nstruct Config { token: Str }";
        assert_eq!(
            derived_debug("a.rs", planted),
            ["a.rs:3: Config derives Debug, which would show its token"]
        );
    }

    #[test]
    fn what_hides_itself_or_holds_nothing_is_free() {
        for fine in [
            "#[derive(Clone)] struct Password(String);",
            "#[derive(Debug)] struct Config { password: Secret, token: Option<Secret>, hmac: HiddenBytes }",
            "#[derive(Debug)] struct Tokenizer { at: usize }",
            "#[derive(Debug)] struct Config { tokens: usize, token_len: usize, user: String }",
            "#[derive(Debug)] struct Plan;\n#[derive(Clone)] struct Secret(String);",
            "// #[derive(Debug)] struct Password(String);",
            "#[derive(Debug)] struct Fetch { api_key: i16 }",
        ] {
            assert!(derived_debug("a.rs", fine).is_empty(), "{fine}: {:?}", derived_debug("a.rs", fine));
        }
    }
}
