//! The checks that look at one file by itself.

use super::text::{body, closing, code_only, line_of, skip_space, word_at, words};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

pub(super) fn file_length(path: &str, text: &str) -> Vec<String> {
    let lines = text.lines().count();
    if lines <= FILE_LINES_MAX {
        return Vec::new();
    }
    vec![format!("{path}: {lines} lines, at most {FILE_LINES_MAX}")]
}

/// From the line with `fn` to the line with the closing brace.
pub(super) fn function_length(path: &str, text: &str) -> Vec<String> {
    let code = code_only(text);
    let mut complaints = Vec::new();
    for at in words(&code, "fn") {
        let name = word_at(&code, skip_space(&code, at + 2));
        // `fn(u8) -> u8` is a type.
        let Some(open) = body(&code, at).filter(|_| !name.is_empty()) else { continue };
        let first = line_of(&code, at);
        let lines = line_of(&code, closing(&code, open)) - first + 1;
        if lines > FUNCTION_LINES_MAX {
            complaints
                .push(format!("{path}:{first}: {name} has {lines} lines, at most {FUNCTION_LINES_MAX}"));
        }
    }
    complaints
}

/// A module opens with `//!` lines of at least a short sentence; plain comments may stand before them.
pub(super) fn module_docs(path: &str, text: &str) -> Vec<String> {
    let words = text
        .lines()
        .skip_while(|line| line.trim().is_empty() || (line.starts_with("//") && !line.starts_with("//!")))
        .map_while(|line| line.strip_prefix("//!"))
        .flat_map(str::split_whitespace)
        .count();
    if words >= 3 {
        return Vec::new();
    }
    vec![format!("{path}: opens without //! lines that say what it is for")]
}

/// Stubs, tests that do not run, leftovers of debugging, unsafe code.
pub(super) fn banned(path: &str, text: &str) -> Vec<String> {
    let code = code_only(text);
    let mut complaints = Vec::new();
    for name in ["todo", "unimplemented", "dbg"] {
        let calls = words(&code, name).filter(|at| code.get(at + name.len()) == Some(&'!'));
        complaints.extend(calls.map(|at| format!("{path}:{}: {name}!", line_of(&code, at))));
    }
    for at in words(&code, "ignore") {
        let before: String = code[..at].iter().rev().filter(|c| !c.is_whitespace()).take(2).collect();
        if before == "[#" {
            complaints.push(format!("{path}:{}: an ignored test", line_of(&code, at)));
        }
    }
    complaints.extend(words(&code, "unsafe").map(|at| format!("{path}:{}: unsafe", line_of(&code, at))));
    complaints
}

/// What a machine must be given and not take: time, chance, input and output, a runtime.
pub(super) fn machines(path: &str, text: &str) -> Vec<String> {
    if !path.split('/').any(|part| part.starts_with("machine")) {
        return Vec::new();
    }
    let code = code_only(text);
    let joined: String = code.iter().collect();
    let mut complaints = Vec::new();
    for name in ["tokio", "rand", "fastrand", "getrandom", "async", "await", "SystemTime"] {
        let uses = words(&code, name);
        complaints.extend(uses.map(|at| format!("{path}:{}: {name} in a machine", line_of(&code, at))));
    }
    for call in ["Instant::now", ".elapsed(", "std::net", "std::thread", "std::fs"] {
        if joined.contains(call) {
            complaints.push(format!("{path}: {call} in a machine"));
        }
    }
    complaints
}

/// Folders of the machine that something was built on. Written in two parts, so that this file passes.
const MACHINE_PATHS: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/tm", "p/"), concat!("/ro", "ot/"), concat!(".lib", "rary")];

pub(super) fn machine_paths(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for named in MACHINE_PATHS {
            if line.contains(named) {
                complaints.push(format!("{path}:{}: names {named}", number + 1));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_file_is_caught() {
        assert!(file_length("a.rs", &"x\n".repeat(600)).is_empty());
        assert_eq!(file_length("a.rs", &"x\n".repeat(601)), ["a.rs: 601 lines, at most 600"]);
    }

    #[test]
    fn a_long_function_is_caught() {
        let function = |lines: usize| format!("//! x\n\nfn f() {{\n{}}}\n", "    g('{');\n".repeat(lines));
        assert!(function_length("a.rs", &function(68)).is_empty());
        assert_eq!(function_length("a.rs", &function(69)), ["a.rs:3: f has 71 lines, at most 70"]);
        let type_only = format!("type F = fn(u8);\nconst A: () = {{{}}};", "\n".repeat(100));
        assert!(function_length("a.rs", &type_only).is_empty());
        let in_string = format!("const A: &str = \"fn f() {{{}}}\";", "\n".repeat(100));
        assert!(function_length("a.rs", &in_string).is_empty());
    }

    #[test]
    fn a_module_without_documents_is_caught() {
        assert!(module_docs("a.rs", "//! Says what it is for.\n").is_empty());
        assert!(module_docs("a.rs", "// Generated by codegen.\n//! The fetch request.\nuse x;\n").is_empty());
        for bad in
            ["", "use x;\n//! Too late, it is no opening.\n", "//! x\n", "/// Not the module.\nfn f() {}"]
        {
            assert_eq!(module_docs("a.rs", bad).len(), 1, "{bad:?}");
        }
    }

    #[test]
    fn banned_calls_are_caught() {
        for (planted, said) in [
            ("fn f() { todo!() }", "a.rs:1: todo!"),
            ("\nunimplemented!(\"x\")", "a.rs:2: unimplemented!"),
            ("let x = dbg!(y);", "a.rs:1: dbg!"),
            ("#[test]\n#[ignore = \"slow\"]\nfn f() {}", "a.rs:2: an ignored test"),
            ("un\u{73}afe { x() }", "a.rs:1: unsafe"),
        ] {
            assert_eq!(banned("a.rs", planted), [said], "{planted}");
        }
        let harmless = "// todo!()\n#![forbid(unsafe_code)]\nlet x = \"dbg!()\"; ignore(x); mytodo!()";
        assert!(banned("a.rs", harmless).is_empty());
    }

    #[test]
    fn a_machine_with_a_clock_is_caught() {
        for planted in
            ["Instant::now()", "SystemTime::now()", "rand::random()", "use tokio::x;", "async fn f()"]
        {
            assert_eq!(machines("src/conn/machine.rs", planted).len(), 1, "{planted}");
            assert_eq!(machines("src/conn/machine_auth.rs", planted).len(), 1, "{planted}");
            assert_eq!(machines("src/share/machine/mod.rs", planted).len(), 1, "{planted}");
            assert!(machines("src/conn/driver.rs", planted).is_empty(), "{planted}");
        }
        assert!(machines("src/conn/machine.rs", "fn f(now: Instant, operand: u8) {} // tokio").is_empty());
    }

    #[test]
    fn a_path_of_a_machine_is_caught() {
        for named in MACHINE_PATHS {
            let complaints = machine_paths("a.md", &format!("see\n{named}x"));
            assert_eq!(complaints, [format!("a.md:2: names {named}")]);
        }
        assert!(machine_paths("a.md", "the work/ folder, a tmp file, the root").is_empty());
    }
}
