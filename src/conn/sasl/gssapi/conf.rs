//! `krb5.conf`, of which two things are wanted: the default realm, and the KDCs of each realm.

use std::collections::BTreeMap;

/// What was found; a file without either is good too.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Conf {
    pub(super) default_realm: Option<String>,
    /// By realm, in the order of the file.
    pub(super) kdcs: BTreeMap<String, Vec<String>>,
}

impl Conf {
    /// Reads the text of a file. What is not understood is passed over, `include` too: the file is for other programs.
    pub(super) fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        // The section, and the names of the braces that are open in it.
        let (mut section, mut open) = ("", Vec::<String>::new());
        for line in text.lines().map(str::trim) {
            if line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches('*').trim_end_matches(']').trim();
                open.clear();
            } else if line.starts_with('}') {
                open.pop();
            } else if let Some((name, value)) = line.split_once('=') {
                let (name, value) = (name.trim().trim_end_matches('*'), value.trim());
                if value == "{" {
                    open.push(name.to_owned());
                } else {
                    conf.take(section, &open, name, value);
                }
            }
        }
        conf
    }

    fn take(&mut self, section: &str, open: &[String], name: &str, value: &str) {
        let value = value.trim_matches('"');
        match (section, open, name) {
            ("libdefaults", [], "default_realm") => {
                self.default_realm.get_or_insert_with(|| value.to_owned());
            }
            ("realms", [realm], "kdc") => {
                // MIT's library takes `tcp/` and `udp/` in front; we always ask by TCP.
                let value =
                    value.strip_prefix("tcp/").or_else(|| value.strip_prefix("udp/")).unwrap_or(value);
                self.kdcs.entry(realm.clone()).or_default().push(value.to_owned());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn realms_and_their_kdcs_are_found() {
        let conf = Conf::parse(
            "# comment\n[libdefaults]\n  default_realm = A.B\n default_realm = LATER\n kdc = no\n\
             [realms]\n A.B = {\n  kdc = one.a.b\n  kdc = tcp/two.a.b:750\n  admin_server = x\n\
             v4 = {\n kdc = not-this\n }\n }\n C = {\n ; kdc = no\n kdc=three\n}\n[domain_realm]\n .a.b = A.B\n",
        );
        assert_eq!(conf.default_realm.as_deref(), Some("A.B"));
        assert_eq!(conf.kdcs["A.B"], ["one.a.b", "two.a.b:750"]);
        assert_eq!(conf.kdcs["C"], ["three"]);
        assert_eq!(conf.kdcs.len(), 2);
        for odd in ["", "[", "}", "= {", "[realms]\n}\n}\nx", "[realms]\n\u{0}= {\nkdc ="] {
            assert!(Conf::parse(odd).default_realm.is_none(), "{odd}");
        }
    }
}
