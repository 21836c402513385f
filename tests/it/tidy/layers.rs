//! Imports point down: a folder of `src` uses only the folders above it in the list of ARCHITECTURE.md.
//!
//! Looked at is every path that begins with `crate::` or climbs to the crate's root with `super::`, in `use`
//! or anywhere else, tests included. A name that lib.rs re-exports counts as the layer it comes from.

use std::collections::BTreeMap;

use super::text::{body, closing, code_only, line_of, skip_space, word_at, words};

/// The layers in reading order. A layer may use itself and those before it.
const LAYERS: [&str; 20] = [
    "error_code",
    "error",
    "secret",
    "wire",
    "messages",
    "records",
    "frame",
    "protocol",
    "observe",
    "net",
    "conn",
    "cluster",
    "client",
    "producer",
    "consumer",
    "share",
    "admin",
    "patterns",
    "mock",
    "cli",
];

/// Names at the crate's root, each with the module that it is re-exported from.
pub(super) fn root_names(lib: &str) -> BTreeMap<String, String> {
    let code = code_only(lib);
    let mut names = BTreeMap::new();
    for at in words(&code, "use") {
        let tree: String = code[at + 3..].iter().take_while(|c| **c != ';').collect();
        for path in paths(tree.trim()) {
            let parts: Vec<&str> =
                path.split("::").filter(|part| *part != "crate" && *part != "self").collect();
            if let [first, .., last] = parts[..] {
                let name = last.rsplit(" as ").next().unwrap_or(last).trim();
                names.insert(name.to_owned(), first.to_owned());
            }
        }
    }
    names
}

/// The single paths of a `use` tree: `a::{b, c::{d, e}}` is `a::b`, `a::c::d`, `a::c::e`.
fn paths(tree: &str) -> Vec<String> {
    let Some((head, inside)) = tree.split_once('{') else { return vec![tree.trim().to_owned()] };
    // Nothing follows a group, so the last brace closes the first.
    let inside = inside.trim_end();
    let inside = inside.strip_suffix('}').unwrap_or(inside);
    let mut found = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inside.char_indices().chain([(inside.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth <= 0 => {
                let branch = inside[start..at].trim();
                if !branch.is_empty() {
                    found.extend(paths(branch).iter().map(|path| format!("{}{path}", head.trim())));
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// Complaints about the imports of one file of `src`. The root itself and the commands are above all layers.
pub(super) fn imports(path: &str, text: &str, root_names: &BTreeMap<String, String>) -> Vec<String> {
    let Some(inside) = path.strip_prefix("src/").filter(|inside| *inside != "lib.rs") else {
        return Vec::new();
    };
    let mut parts: Vec<&str> = inside.trim_end_matches(".rs").split('/').collect();
    parts.pop_if(|last| *last == "mod");
    if parts.first() == Some(&"bin") {
        return Vec::new();
    }
    let Some(own) = rank(parts[0]) else {
        return vec![format!("{path}: {} is not in the list of layers", parts[0])];
    };
    let code = code_only(text);
    let mut complaints = Vec::new();
    for (at, name) in rooted(&code, parts.len()) {
        let layer = root_names.get(&name).unwrap_or(&name);
        let line = line_of(&code, at);
        match rank(layer) {
            Some(theirs) if theirs <= own => {}
            Some(_) => complaints.push(format!("{path}:{line}: {} must not use {layer}", parts[0])),
            None => {
                complaints.push(format!("{path}:{line}: crate::{name} is no layer and no name of lib.rs"));
            }
        }
    }
    // A group names a layer once for each thing that it takes from it.
    complaints.dedup();
    complaints
}

fn rank(layer: &str) -> Option<usize> {
    LAYERS.iter().position(|known| *known == layer)
}

/// Every name that is taken from the crate's root, with its place. `depth` is how many modules deep the file is.
fn rooted(code: &[char], depth: usize) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in words(code, "crate") {
        found.extend(first_names(code, at + "crate".len()).into_iter().map(|name| (at, name)));
    }
    let inner = inline_modules(code);
    let mut behind = 0;
    for at in words(code, "super").collect::<Vec<_>>() {
        // The later links of a chain that was already followed.
        if at < behind {
            continue;
        }
        let (mut end, mut climbed) = (at + "super".len(), 1);
        while let Some(next) = after_colons(code, end).filter(|next| word_at(code, *next) == "super") {
            (end, climbed) = (next + "super".len(), climbed + 1);
        }
        behind = end;
        let around = inner.iter().filter(|(open, close)| (*open..*close).contains(&at)).count();
        if climbed == depth + around {
            found.extend(first_names(code, end).into_iter().map(|name| (at, name)));
        }
    }
    found
}

/// From the end of a path's segment to the start of the next, if there is one.
fn after_colons(code: &[char], end: usize) -> Option<usize> {
    let at = skip_space(code, end);
    code[at..].starts_with(&[':', ':']).then(|| skip_space(code, at + 2))
}

/// The names that follow a segment: one, or those of a group in braces. A glob names itself.
fn first_names(code: &[char], end: usize) -> Vec<String> {
    let Some(at) = after_colons(code, end) else { return Vec::new() };
    match code.get(at) {
        Some('{') => {
            let group: String = code[at..=closing(code, at)].iter().collect();
            paths(&group).iter().map(|path| first_segment(path)).collect()
        }
        Some('*') => vec!["*".to_owned()],
        _ => vec![word_at(code, at)],
    }
}

fn first_segment(path: &str) -> String {
    path.split("::").next().unwrap_or(path).split(" as ").next().unwrap_or(path).trim().to_owned()
}

/// Where the bodies of inline modules open and close.
fn inline_modules(code: &[char]) -> Vec<(usize, usize)> {
    words(code, "mod").filter_map(|at| body(code, at)).map(|open| (open, closing(code, open))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str) -> Vec<String> {
        let lib = "pub use error::{Error, Result};\npub use producer::{Record as Out, ack::Ack};\nmod x;";
        imports(path, text, &root_names(lib))
    }

    #[test]
    fn looking_up_is_caught() {
        for planted in [
            "use crate::conn::Connection;",
            "use crate::{error::Error, conn::{Connection, Pool}};",
            "fn f() { let x = crate::conn::open(); }",
            "use crate::Ack;",
            "use crate::Out;",
            "use super::super::conn::Connection;",
            "use super::super::{wire, conn};",
            "mod tests { use super::super::super::conn::Connection; }",
            "use crate::*;",
            "use crate::unheard_of::X;",
        ] {
            assert_eq!(check("src/wire/reader.rs", planted).len(), 1, "{planted}");
        }
        assert_eq!(check("src/frame.rs", "\nuse super::net::X;"), ["src/frame.rs:2: frame must not use net"]);
        assert_eq!(check("src/misc/mod.rs", ""), ["src/misc/mod.rs: misc is not in the list of layers"]);
    }

    #[test]
    fn looking_down_or_beside_is_free() {
        for fine in [
            "use crate::error::Error;",
            "use crate::{Error, Result, wire::{Reader, Writer}};",
            "use super::varint;",
            "mod tests { use super::*; use super::super::reader; }",
            "// use crate::conn::Connection;",
            "pub(crate) fn f(x: &str) { g(\"crate::conn\") }",
            "pub(in crate::wire) fn f() {}",
            "macro_rules! m { () => { $crate::wire::Reader } }",
        ] {
            assert!(
                check("src/wire/reader.rs", fine).is_empty(),
                "{fine}: {:?}",
                check("src/wire/reader.rs", fine)
            );
        }
        assert!(check("src/lib.rs", "use crate::mock::X;").is_empty());
        assert!(check("src/bin/weir.rs", "use crate::mock::X;").is_empty());
        assert!(check("tests/it/main.rs", "use crate::skip::skip;").is_empty());
    }

    #[test]
    fn use_trees_come_apart() {
        assert_eq!(paths("a::{b, c::{d, e as f}, g}"), ["a::b", "a::c::d", "a::c::e as f", "a::g"]);
        assert_eq!(paths("a::{b::{c}}"), ["a::b::c"]);
        assert_eq!(paths("x::y"), ["x::y"]);
    }
}
