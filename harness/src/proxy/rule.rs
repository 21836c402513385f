//! Faults as plain data: what happens, when, and how often. A rule is built in a test or read from JSON, and
//! says nothing of sockets, so a script of rules can drive anything that carries Kafka's frames.
//!
//! A rule watches for its *occasions*: a link that opens (or is open), or a frame. Each occasion is counted,
//! the first `skip` of them pass, then chance is asked, until the fault has struck `times` times.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest time that a rule may name, in milliseconds: a day.
const MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// The most bytes that one rule may replace.
const REPLACE_MAX: usize = 64 << 10;

/// One way through a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the client to the broker.
    Requests,
    /// From the broker to the client.
    Responses,
}

/// The ways that a rule concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// From the client to the broker.
    Requests,
    /// From the broker to the client.
    Responses,
    /// Each of them by itself.
    #[default]
    Both,
}

impl Way {
    /// Whether this is that direction, or both.
    pub fn covers(self, direction: Direction) -> bool {
        match self {
            Self::Requests => direction == Direction::Requests,
            Self::Responses => direction == Direction::Responses,
            Self::Both => true,
        }
    }
}

/// Where in a link the fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum At {
    /// On the whole link, from now on: open links and those that open later.
    #[default]
    Link,
    /// At each frame of this API, or at each frame if none is named. Bytes that are no Kafka frames (TLS)
    /// have no such occasions.
    Frame {
        /// Kafka's number of the API.
        #[serde(default)]
        api: Option<i16>,
        /// Where in the frame.
        #[serde(default)]
        point: Point,
    },
    /// When this many bytes of the link went by in the rule's way, whatever they are.
    Byte {
        /// How many bytes went by unharmed.
        offset: u64,
    },
}

/// Where in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// Before its first byte.
    #[default]
    Start,
    /// After this many of its bytes, of which the length in front is the first four. A frame that is not
    /// longer than this is no occasion.
    Byte(u64),
    /// After its last byte.
    End,
}

/// How a link ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// FIN to both sides: the peer reads an end.
    Close,
    /// RST to both sides: the peer's next read or write fails.
    Reset,
}

/// What happens.
///
/// A link keeps the order of its bytes, as TCP does: what waits, waits with everything behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Fault {
    /// Everything (on a link) or a frame arrives later. What is under way meanwhile is held up to 1 MiB.
    Delay {
        /// Milliseconds, at most a day.
        ms: u64,
        /// Up to as many milliseconds more, drawn from the seed.
        #[serde(default)]
        jitter_ms: u64,
    },
    /// No more than this passes. For links.
    Bandwidth {
        /// Above zero.
        bytes_per_second: u64,
    },
    /// Bytes pass in small pieces. For links.
    Slice {
        /// The largest piece, above zero.
        bytes: usize,
        /// Milliseconds between two pieces.
        #[serde(default)]
        pause_ms: u64,
    },
    /// Nothing passes until the rule ends; then it goes on, and nothing is lost. Reading stops too, so the
    /// sender feels it. On a link it holds even the news that the sender closed: a silent network.
    Hold,
    /// One frame vanishes and the link goes on. For the start of frames.
    Swallow,
    /// From here on bytes are read and thrown away, and so is the news that the sender closed. Clients can
    /// still connect. When the rule ends, links that lost bytes are reset.
    BlackHole {
        /// Both ways at once, whichever it was noticed in.
        #[serde(default)]
        both: bool,
    },
    /// The receiver is told that no more comes; what still comes is thrown away. The other way goes on.
    HalfClose,
    /// The link ends, both ways. Bytes before the point are written first.
    Cut(End),
    /// One byte is changed by exclusive or with this. For frames and bytes.
    Flip(u8),
    /// The next bytes become these, never beyond the end of the frame. For frames and bytes.
    Replace(Vec<u8>),
    /// The port is closed: new connections are refused, open ones go on. For links, without conditions.
    Refuse,
}

/// A fault, when and where it happens, and how often.
///
/// ```
/// use weir_kafka_harness::proxy::{End, Fault, Rule};
///
/// // The broker applies the third Produce (API 0), and its response is lost with the connection.
/// let rule = Rule::new(Fault::Cut(End::Reset)).responses().api(0).nth(3);
/// assert!(rule.check().is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What happens.
    pub fault: Fault,
    /// In which way it is looked for, and happens.
    #[serde(default)]
    pub way: Way,
    /// Where.
    #[serde(default)]
    pub at: At,
    /// Only on this link; the first of a proxy is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<u64>,
    /// How many occasions pass before the first counts.
    #[serde(default)]
    pub skip: u64,
    /// How often it strikes at most; without end if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// The probability of each occasion, from 0 to 1.
    #[serde(default = "always")]
    pub chance: f64,
    /// Milliseconds until the rule begins.
    #[serde(default)]
    pub start_ms: u64,
    /// Milliseconds until it ends, from its beginning; until it is removed if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub for_ms: Option<u64>,
}

fn always() -> f64 {
    1.0
}

impl Rule {
    /// The fault on every link, both ways, at once and until the rule is removed.
    pub fn new(fault: Fault) -> Self {
        Self {
            fault,
            way: Way::Both,
            at: At::Link,
            link: None,
            skip: 0,
            times: None,
            chance: always(),
            start_ms: 0,
            for_ms: None,
        }
    }

    /// Only from the client to the broker.
    #[must_use]
    pub fn requests(self) -> Self {
        Self { way: Way::Requests, ..self }
    }

    /// Only from the broker to the client.
    #[must_use]
    pub fn responses(self) -> Self {
        Self { way: Way::Responses, ..self }
    }

    /// At the start of each frame of this API.
    #[must_use]
    pub fn api(self, api: i16) -> Self {
        Self { at: At::Frame { api: Some(api), point: Point::Start }, ..self }
    }

    /// At the start of every frame.
    #[must_use]
    pub fn any_frame(self) -> Self {
        Self { at: At::Frame { api: None, point: Point::Start }, ..self }
    }

    /// Elsewhere in the frame than at its start. A rule that is not about frames becomes one about all.
    #[must_use]
    pub fn point(self, point: Point) -> Self {
        let api = if let At::Frame { api, .. } = self.at { api } else { None };
        Self { at: At::Frame { api, point }, ..self }
    }

    /// After so many bytes of a link.
    #[must_use]
    pub fn byte(self, offset: u64) -> Self {
        Self { at: At::Byte { offset }, ..self }
    }

    /// Only on this link; the first of a proxy is 1.
    #[must_use]
    pub fn on_link(self, link: u64) -> Self {
        Self { link: Some(link), ..self }
    }

    /// Only at the `n`-th occasion, the first being 1.
    #[must_use]
    pub fn nth(self, n: u64) -> Self {
        Self { skip: n.saturating_sub(1), times: Some(1), ..self }
    }

    /// Lets so many occasions pass first.
    #[must_use]
    pub fn skip(self, skip: u64) -> Self {
        Self { skip, ..self }
    }

    /// Strikes at most so often.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Strikes with this probability, from 0 to 1.
    #[must_use]
    pub fn chance(self, chance: f64) -> Self {
        Self { chance, ..self }
    }

    /// Begins so many milliseconds from now.
    #[must_use]
    pub fn start_ms(self, ms: u64) -> Self {
        Self { start_ms: ms, ..self }
    }

    /// Ends so many milliseconds after its beginning.
    #[must_use]
    pub fn for_ms(self, ms: u64) -> Self {
        Self { for_ms: Some(ms), ..self }
    }

    /// Whether the rule makes sense: its fault can happen there, its numbers are in their bounds.
    pub fn check(&self) -> Result<(), BadRule> {
        let bad = |what: &str| Err(BadRule(format!("{what}: {self:?}")));
        let at_link = self.at == At::Link;
        match &self.fault {
            Fault::Delay { ms, jitter_ms } if (*ms).max(*jitter_ms) > MS_MAX => {
                return bad("a delay of more than a day");
            }
            Fault::Bandwidth { bytes_per_second: 0 } | Fault::Slice { bytes: 0, .. } => {
                return bad("nothing could pass, use hold");
            }
            Fault::Slice { pause_ms, .. } if *pause_ms > MS_MAX => return bad("a pause of more than a day"),
            Fault::Bandwidth { .. } | Fault::Slice { .. } if !at_link => return bad("that is for links"),
            Fault::Swallow if !matches!(self.at, At::Frame { point: Point::Start, .. }) => {
                return bad("only whole frames are swallowed");
            }
            Fault::Flip(_) | Fault::Replace(_) if at_link => return bad("say which bytes to change"),
            Fault::Flip(0) => return bad("that changes nothing"),
            Fault::Replace(bytes) if bytes.is_empty() || bytes.len() > REPLACE_MAX => {
                return bad("1 to 65536 bytes can be replaced");
            }
            Fault::Refuse if !self.is_plain() => return bad("refusal has no conditions"),
            _ => {}
        }
        if !(0.0..=1.0).contains(&self.chance) {
            return bad("a probability is from 0 to 1");
        }
        if self.start_ms.max(self.for_ms.unwrap_or(0)) > MS_MAX {
            return bad("more than a day");
        }
        Ok(())
    }

    /// Without conditions other than time.
    fn is_plain(&self) -> bool {
        let timeless = Self { start_ms: 0, for_ms: None, ..self.clone() };
        timeless == Self::new(self.fault.clone())
    }
}

/// A seed and rules: what a test does to a proxy, as a file.
///
/// ```
/// use weir_kafka_harness::proxy::Script;
///
/// let script = Script::from_json(r#"{"seed": 7, "rules": [
///     {"fault": {"delay": {"ms": 50}}, "way": "responses", "at": {"frame": {"api": 1}}, "chance": 0.5},
///     {"fault": {"cut": "reset"}, "at": {"frame": {"api": 0, "point": {"byte": 20}}}, "times": 1},
///     {"fault": "hold", "start_ms": 1000, "for_ms": 500}
/// ]}"#)?;
/// assert_eq!(script.rules.len(), 3);
/// assert_eq!(Script::from_json(&script.to_json())?, script);
/// # Ok::<(), weir_kafka_harness::proxy::BadRule>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// Chance and jitter are drawn from it.
    #[serde(default)]
    pub seed: u64,
    /// In the order in which they are asked.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

impl Script {
    /// Reads a script and checks its rules.
    pub fn from_json(text: &str) -> Result<Self, BadRule> {
        let script: Self = serde_json::from_str(text).map_err(|error| BadRule(error.to_string()))?;
        script.rules.iter().try_for_each(Rule::check)?;
        Ok(script)
    }

    /// Writes it so that [`Script::from_json`] reads the same.
    pub fn to_json(&self) -> String {
        // Only maps with odd keys and foreign code can fail here, and there are none.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

/// A rule that cannot be followed, or a script that is none; the text says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRule(pub(super) String);

impl fmt::Display for BadRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad fault rule: {}", self.0)
    }
}

impl std::error::Error for BadRule {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_without_sense_are_refused() {
        let link = |fault| Rule::new(fault);
        for (rule, why) in [
            (link(Fault::Bandwidth { bytes_per_second: 0 }), "nothing could pass"),
            (link(Fault::Slice { bytes: 1, pause_ms: 0 }).api(0), "that is for links"),
            (link(Fault::Swallow), "only whole frames"),
            (link(Fault::Swallow).point(Point::End), "only whole frames"),
            (link(Fault::Flip(1)), "which bytes"),
            (link(Fault::Flip(0)).byte(1), "changes nothing"),
            (link(Fault::Replace(Vec::new())).byte(1), "can be replaced"),
            (link(Fault::Refuse).chance(0.5), "no conditions"),
            (link(Fault::Refuse).requests(), "no conditions"),
            (link(Fault::Hold).chance(1.5), "probability"),
            (link(Fault::Hold).chance(f64::NAN), "probability"),
            (link(Fault::Hold).for_ms(u64::MAX), "more than a day"),
            (link(Fault::Delay { ms: u64::MAX, jitter_ms: 0 }), "more than a day"),
        ] {
            let error = rule.check().expect_err(why);
            assert!(error.to_string().contains(why), "{error}");
        }
        assert_eq!(link(Fault::Refuse).start_ms(5).for_ms(5).check(), Ok(()));
    }

    #[test]
    fn every_fault_survives_json() {
        let faults = [
            Fault::Delay { ms: 1, jitter_ms: 2 },
            Fault::Bandwidth { bytes_per_second: 3 },
            Fault::Slice { bytes: 4, pause_ms: 5 },
            Fault::Hold,
            Fault::Swallow,
            Fault::BlackHole { both: true },
            Fault::HalfClose,
            Fault::Cut(End::Close),
            Fault::Flip(6),
            Fault::Replace(vec![7, 8]),
            Fault::Refuse,
        ];
        let rules = faults.into_iter().flat_map(|fault| {
            let rule = Rule::new(fault);
            let rich =
                rule.clone().responses().on_link(9).skip(10).times(11).chance(0.25).start_ms(12).for_ms(13);
            [
                rule,
                rich.clone(),
                rich.clone().api(14),
                rich.clone().api(14).point(Point::Byte(15)),
                rich.requests().byte(16),
            ]
        });
        let rules: Vec<Rule> = rules.filter(|rule| rule.check().is_ok()).collect();
        assert_eq!(rules.len(), 37);
        let script = Script { seed: 17, rules };
        assert_eq!(Script::from_json(&script.to_json()), Ok(script));
    }

    #[test]
    fn a_script_with_a_mistake_says_where() {
        for (text, why) in [
            ("{", "line 1"),
            (r#"{"rules": [{"fault": "hold", "tims": 1}]}"#, "tims"),
            (r#"{"rules": [{"fault": "explode"}]}"#, "explode"),
            (r#"{"rules": [{"fault": "swallow"}]}"#, "only whole frames"),
        ] {
            let error = Script::from_json(text).expect_err(why);
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
