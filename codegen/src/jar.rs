//! Reads the message specs out of a kafka-clients jar, where they lie under `common/message/`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use crate::Result;

/// A spec is some tens of kilobytes; what claims more is no spec.
const SPEC_BYTES_MAX: u64 = 4 << 20;

/// The text of every spec by its file name.
pub fn read_specs(path: &Path) -> Result<BTreeMap<String, String>> {
    let context = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let file = std::fs::File::open(path).map_err(|e| context(&e))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|e| context(&e))?;
    let names: Vec<String> = archive
        .file_names()
        .filter_map(|name| name.ok().map(std::borrow::Cow::into_owned))
        .filter(|name| name.starts_with("common/message/") && has_json_extension(name))
        .collect();
    if names.is_empty() {
        return Err(context(&"no message specs under common/message: not a kafka-clients jar"));
    }
    let mut specs = BTreeMap::new();
    for name in names {
        let entry = archive.by_name(&name).map_err(|e| context(&e))?;
        let mut text = String::new();
        entry.take(SPEC_BYTES_MAX).read_to_string(&mut text).map_err(|e| context(&e))?;
        specs.insert(name, text);
    }
    Ok(specs)
}

fn has_json_extension(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "json")
}
