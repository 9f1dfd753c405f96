//! Filters by state and strategy, in the syntax of AIP-160: `state = PAUSED AND NOT strategy:blue_green`.
//!
//! As AIP-160 has it, OR binds more tightly than AND. Values are those of the contract's enums, with or without their prefix, in
//! either case. What cannot be read is refused with its position, and with what would be known there.

use super::convert::Record;
use super::error::Error;
use crate::pb::v1::rollout_status::State;

/// How long a filter may be, in bytes: many times what two fields can say.
const LONGEST: usize = 2048;

/// How deep parentheses and negations may be nested: each level costs stack.
const DEEPEST: usize = 32;

/// Which rollouts are meant; all by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter(Option<Expression>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    State(State),
    Strategy(Strategy),
    /// The field has a value at all.
    Has(Field),
}

/// How versions of a rollout follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strategy {
    /// Step by step.
    Canary,
    /// All at once.
    BlueGreen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    State,
    Strategy,
}

impl Filter {
    /// Reads the `filter` of a request; an empty one selects everything.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > LONGEST {
            let what = format!("is {} bytes long; at most {LONGEST} are read", text.len());
            return Err(Error::field("filter", what));
        }
        let mut parser = Parser { words: words(text)?, next: 0, depth: 0 };
        if parser.peek().is_none() {
            return Ok(Self::default());
        }
        let expression = parser.expression()?;
        match parser.take() {
            None => Ok(Self(Some(expression))),
            Some(word) => Err(word.unexpected("AND, OR or the end")),
        }
    }

    /// Whether a rollout is meant.
    pub(super) fn matches(&self, record: Record<'_>) -> bool {
        self.0.as_ref().is_none_or(|expression| expression.holds(record.state(), record.strategy()))
    }

    /// Whether it selects everything.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl Expression {
    fn holds(&self, state: State, strategy: Option<Strategy>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(state, strategy)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(state, strategy)),
            Self::Not(inner) => !inner.holds(state, strategy),
            Self::State(wanted) => state == *wanted,
            Self::Strategy(wanted) => strategy == Some(*wanted),
            Self::Has(Field::State) => state != State::Unspecified,
            Self::Has(Field::Strategy) => strategy.is_some(),
        }
    }
}

impl Field {
    /// The condition that the field has a value.
    fn with(self, value: &Word) -> Result<Expression, Error> {
        let name = value.text.to_ascii_uppercase();
        match self {
            Self::State => {
                let state =
                    State::from_str_name(&name).or_else(|| State::from_str_name(&format!("STATE_{name}")));
                state.map(Expression::State).ok_or_else(|| {
                    value.wrong("is no state; there are PROGRESSING, PAUSED, HEALTHY and DEGRADED")
                })
            }
            Self::Strategy => match name.as_str() {
                "CANARY" => Ok(Expression::Strategy(Strategy::Canary)),
                "BLUE_GREEN" => Ok(Expression::Strategy(Strategy::BlueGreen)),
                _ => Err(value.wrong("is no strategy; there are canary and blue_green")),
            },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Open,
    Close,
    Minus,
    Operator,
    /// A name, a value or a keyword.
    Text,
    /// A value in quotation marks, which is never a keyword.
    Quoted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Word {
    kind: Kind,
    text: String,
    /// Where it begins, in characters from 1.
    position: usize,
}

impl Word {
    fn is(&self, keyword: &str) -> bool {
        self.kind == Kind::Text && self.text == keyword
    }

    fn wrong(&self, what: &str) -> Error {
        Error::field("filter", format!("{:?} at position {} {what}", self.text, self.position))
    }

    fn unexpected(&self, wanted: &str) -> Error {
        self.wrong(&format!("stands where {wanted} belongs"))
    }
}

fn ends(wanted: &str) -> Error {
    Error::field("filter", format!("ends where {wanted} belongs"))
}

fn words(text: &str) -> Result<Vec<Word>, Error> {
    let mut words = Vec::new();
    let mut characters = text.chars().zip(1..).peekable();
    while let Some((character, position)) = characters.next() {
        let mut word = Word { kind: Kind::Text, text: character.to_string(), position };
        match character {
            _ if character.is_whitespace() => continue,
            '(' => word.kind = Kind::Open,
            ')' => word.kind = Kind::Close,
            '-' => word.kind = Kind::Minus,
            '=' | ':' => word.kind = Kind::Operator,
            '!' if characters.next_if(|(next, _)| *next == '=').is_some() => {
                word = Word { kind: Kind::Operator, text: "!=".to_owned(), position };
            }
            '"' | '\'' => {
                word.kind = Kind::Quoted;
                word.text =
                    characters.by_ref().map(|(next, _)| next).take_while(|next| *next != character).collect();
            }
            '<' | '>' => return Err(word.wrong("is no operator here; there are =, != and :")),
            _ => {
                let goes_on = |next: &char| !next.is_whitespace() && !"()=:!<>\"'".contains(*next);
                while let Some((next, _)) = characters.next_if(|(next, _)| goes_on(next)) {
                    word.text.push(next);
                }
            }
        }
        words.push(word);
    }
    Ok(words)
}

struct Parser {
    words: Vec<Word>,
    next: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Word> {
        self.words.get(self.next)
    }

    fn take(&mut self) -> Option<Word> {
        let word = self.words.get(self.next).cloned();
        self.next += 1;
        word
    }

    fn take_if(&mut self, wanted: impl Fn(&Word) -> bool) -> bool {
        let is_wanted = self.peek().is_some_and(wanted);
        self.next += usize::from(is_wanted);
        is_wanted
    }

    fn expression(&mut self) -> Result<Expression, Error> {
        let mut parts = vec![self.factor()?];
        while self.take_if(|word| word.is("AND")) {
            parts.push(self.factor()?);
        }
        Ok(one_or(parts, Expression::All))
    }

    fn factor(&mut self) -> Result<Expression, Error> {
        let mut parts = vec![self.term()?];
        while self.take_if(|word| word.is("OR")) {
            parts.push(self.term()?);
        }
        Ok(one_or(parts, Expression::Any))
    }

    fn term(&mut self) -> Result<Expression, Error> {
        let word = self.take().ok_or_else(|| ends("a condition"))?;
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(word.wrong(&format!("is nested more than {DEEPEST} deep")));
        }
        let term = match word.kind {
            Kind::Minus => Expression::Not(Box::new(self.term()?)),
            Kind::Text if word.is("NOT") => Expression::Not(Box::new(self.term()?)),
            Kind::Open => {
                let inner = self.expression()?;
                match self.take() {
                    Some(word) if word.kind == Kind::Close => inner,
                    Some(word) => return Err(word.unexpected("AND, OR or )")),
                    None => return Err(ends("a )")),
                }
            }
            Kind::Text => self.condition(&word)?,
            Kind::Close | Kind::Operator | Kind::Quoted => return Err(word.unexpected("a field")),
        };
        self.depth -= 1;
        Ok(term)
    }

    fn condition(&mut self, field: &Word) -> Result<Expression, Error> {
        let field = match field.text.as_str() {
            "state" => Field::State,
            "strategy" => Field::Strategy,
            _ => return Err(field.wrong("is no field to filter by; there are state and strategy")),
        };
        let operator = self.take().ok_or_else(|| ends("an operator (=, != or :)"))?;
        if operator.kind != Kind::Operator {
            return Err(operator.unexpected("an operator (=, != or :)"));
        }
        let value = self.take().ok_or_else(|| ends("a value"))?;
        if !matches!(value.kind, Kind::Text | Kind::Quoted) {
            return Err(value.unexpected("a value"));
        }
        if operator.text == ":" && value.kind == Kind::Text && value.text == "*" {
            return Ok(Expression::Has(field));
        }
        let condition = field.with(&value)?;
        Ok(if operator.text == "!=" { Expression::Not(Box::new(condition)) } else { condition })
    }
}

fn one_or(mut parts: Vec<Expression>, many: impl Fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.len() {
        1 => parts.swap_remove(0),
        _ => many(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str, state: State, strategy: Option<Strategy>) -> bool {
        Filter::parse(text).unwrap().0.is_none_or(|expression| expression.holds(state, strategy))
    }

    #[test]
    fn a_filter_means_what_aip_160_says() {
        let paused = |text: &str| holds(text, State::Paused, Some(Strategy::Canary));
        for (text, expected) in [
            ("", true),
            ("  ", true),
            ("state = PAUSED", true),
            ("state=STATE_PAUSED", true),
            ("state:paused", true),
            ("state = \"PAUSED\"", true),
            ("state = 'PAUSED'", true),
            ("state != PAUSED", false),
            ("state != HEALTHY", true),
            ("-state = PAUSED", false),
            ("NOT state = HEALTHY", true),
            ("NOT NOT state:PAUSED", true),
            ("strategy = canary", true),
            ("strategy = BLUE_GREEN", false),
            ("strategy:*", true),
            ("state:*", true),
            ("state = PAUSED AND strategy = blue_green", false),
            ("state = HEALTHY OR state = PAUSED", true),
            // OR binds more tightly than AND.
            ("state = PAUSED OR state = HEALTHY AND strategy = blue_green", false),
            ("(state = PAUSED) OR (state = HEALTHY AND strategy = blue_green)", true),
            ("-(state = PAUSED OR state = HEALTHY)", false),
            ("( ( state = PAUSED ) )", true),
        ] {
            assert_eq!(paused(text), expected, "{text}");
        }
        assert!(!holds("state:*", State::Unspecified, None) && !holds("strategy:*", State::Paused, None));
        assert!(holds("strategy != canary", State::Paused, None), "what has none has another");
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_position_and_with_what_is_known() {
        for (text, expected) in [
            (
                "status = PAUSED",
                "filter: \"status\" at position 1 is no field to filter by; there are state and strategy",
            ),
            (
                "state = HEALTHY OR state = PAUSE",
                "filter: \"PAUSE\" at position 28 is no state; there are PROGRESSING, PAUSED, HEALTHY and DEGRADED",
            ),
            (
                "strategy = rolling",
                "filter: \"rolling\" at position 12 is no strategy; there are canary and blue_green",
            ),
            ("state", "filter: ends where an operator (=, != or :) belongs"),
            ("state =", "filter: ends where a value belongs"),
            (
                "state PAUSED",
                "filter: \"PAUSED\" at position 7 stands where an operator (=, != or :) belongs",
            ),
            ("state > PAUSED", "filter: \">\" at position 7 is no operator here; there are =, != and :"),
            (
                "state = PAUSED state = HEALTHY",
                "filter: \"state\" at position 16 stands where AND, OR or the end belongs",
            ),
            ("state = PAUSED AND", "filter: ends where a condition belongs"),
            ("(state = PAUSED", "filter: ends where a ) belongs"),
            ("state = PAUSED)", "filter: \")\" at position 15 stands where AND, OR or the end belongs"),
            ("AND", "filter: \"AND\" at position 1 is no field to filter by; there are state and strategy"),
            (
                "ä = PAUSED",
                "filter: \"ä\" at position 1 is no field to filter by; there are state and strategy",
            ),
            ("state = (PAUSED)", "filter: \"(\" at position 9 stands where a value belongs"),
            (
                "!state = PAUSED",
                "filter: \"!state\" at position 1 is no field to filter by; there are state and strategy",
            ),
            (
                "state = \"*\"",
                "filter: \"*\" at position 9 is no state; there are PROGRESSING, PAUSED, HEALTHY and DEGRADED",
            ),
        ] {
            assert_eq!(Filter::parse(text).unwrap_err().message(), expected, "{text}");
        }
    }

    #[test]
    fn length_and_depth_are_bounded() {
        let nested = |depth: usize| format!("{}state=PAUSED{}", "(".repeat(depth), ")".repeat(depth));
        assert!(Filter::parse(&nested(DEEPEST - 1)).is_ok());
        assert!(Filter::parse(&nested(DEEPEST)).unwrap_err().message().contains("deep"));
        assert!(Filter::parse(&"-".repeat(1000)).is_err());
        assert!(Filter::parse(&" ".repeat(LONGEST + 1)).is_err());
        let many = vec!["state=PAUSED"; 100].join(" OR ");
        assert!(Filter::parse(&many).is_ok(), "what stands side by side is not nested");
    }
}
