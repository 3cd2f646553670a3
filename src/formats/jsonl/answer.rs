//! What our records say about themselves beside the status: confidences and times.

use serde::{Deserialize, Serialize};

/// Members of a record's `secondpass` that were asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// The words decided for, where they need not be those of a hypothesis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Probability that all words of the answer are right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confidence: Option<f64>,
    /// The words of the answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub words: Vec<AnswerWord>,
    /// Probability of each hypothesis, as they stand in the list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub posteriors: Vec<f64>,
    /// From reading the record to its answer, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<f64>,
}

/// A word of the answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AnswerWord {
    /// As in the hypothesis.
    pub word: String,
    /// Probability that it is right.
    pub confidence: f64,
}

impl Answer {
    /// What the record in `line` says; `None` where it is not our own, or says nothing that can be
    /// read.
    pub fn read(line: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Record {
            secondpass: Option<Answer>,
        }
        serde_json::from_slice::<Record>(line).ok()?.secondpass
    }

    /// The members as JSON text, each with a comma before it; empty if there are none.
    pub fn members(&self) -> String {
        // Strings, numbers and lists of them cannot fail.
        let object = serde_json::to_string(self).unwrap_or_default();
        match object.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(members) if !members.is_empty() => format!(",{members}"),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let word = |word: &str| AnswerWord { word: word.into(), confidence: 0.25 };
        let answer = Answer {
            text: Some("a \"b\"".into()),
            confidence: Some(0.5),
            words: vec![word("a"), word("\"b\"")],
            posteriors: vec![0.75, 0.25],
            took_ms: Some(1.5),
        };
        let line = format!("{{\"hyps\":[],\"secondpass\":{{\"status\":\"ok\"{}}}}}", answer.members());
        assert_eq!(Answer::read(line.as_bytes()), Some(answer));
        assert_eq!(Answer::default().members(), "");
        assert_eq!(Answer::read(b"{\"secondpass\":{\"status\":\"ok\"}}"), Some(Answer::default()));
        for other in ["{}", "", "[]", "{\"secondpass\":3}", "{\"secondpass\":{\"confidence\":\"x\"}}"] {
            assert_eq!(Answer::read(other.as_bytes()), None, "{other}");
        }
    }
}
