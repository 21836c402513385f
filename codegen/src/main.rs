//! The command: `codegen import JAR...`, then `codegen generate`, from the root of the checkout.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use weir_codegen::{BY_HAND, Files, Result, generate, import, read_folder};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["import", jars @ ..] if !jars.is_empty() => run_import(jars),
        ["generate"] => run_generate(),
        _ => Err("usage: codegen import JAR... (newest release first) | codegen generate".to_owned()),
    };
    match done {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("codegen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_import(jars: &[&str]) -> Result<String> {
    let paths: Vec<&Path> = jars.iter().map(Path::new).collect();
    let files = import(&paths)?;
    replace(&root().join("protocol-specs"), "json", &files, &[])?;
    Ok(format!("{} specs written from {} jars", files.len(), jars.len()))
}

fn run_generate() -> Result<String> {
    let specs = read_folder(&root().join("protocol-specs"), "json")?;
    let files = generate(&specs)?;
    replace(&root().join("src/messages"), "rs", &files, BY_HAND)?;
    let lines: usize = files.values().map(|text| text.lines().count()).sum();
    Ok(format!("{} files, {lines} lines written from {} specs", files.len(), specs.len()))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Makes the folder hold exactly these files of that extension, besides the ones named in `keep`.
fn replace(folder: &Path, extension: &str, files: &Files, keep: &[&str]) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for old in read_folder(folder, extension)?.keys() {
        if !files.contains_key(old) && !keep.contains(&old.as_str()) {
            std::fs::remove_file(folder.join(old)).map_err(|e| format!("{old}: {e}"))?;
        }
    }
    for (name, text) in files {
        std::fs::write(folder.join(name), text).map_err(|e| format!("{name}: {e}"))?;
    }
    Ok(())
}
