//! What an alert is about, within its device or place.

use std::{convert::Infallible, fmt, str::FromStr};

use crate::service::grid::Point;

/// Written into the alert's row as one word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// The device or the place itself.
    Whole,
    /// A measuring point of a store's grid.
    Point(Point),
    /// A layer of a store's grid.
    Layer(i16),
    /// A reading's name.
    Name(String),
    /// Two devices of a place, by their names.
    Devices(String, String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole => Ok(()),
            Self::Point(point) => write!(f, "point:{}/{}/{}", point.row, point.column, point.layer),
            Self::Layer(layer) => write!(f, "layer:{layer}"),
            Self::Name(name) => write!(f, "name:{name}"),
            Self::Devices(one, other) => write!(f, "devices:{one}/{other}"),
        }
    }
}

impl FromStr for Subject {
    type Err = Infallible;
    /// What cannot be read is shown as it stands.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let name = || Self::Name(text.to_owned());
        let Some((kind, of)) = text.split_once(':') else {
            return Ok(if text.is_empty() { Self::Whole } else { name() });
        };
        Ok(match kind {
            "point" => point(of).map_or_else(name, Self::Point),
            "layer" => of.parse().map_or_else(|_| name(), Self::Layer),
            "name" => Self::Name(of.to_owned()),
            "devices" => {
                of.split_once('/').map_or_else(name, |(one, other)| Self::Devices(one.into(), other.into()))
            }
            _ => name(),
        })
    }
}

fn point(text: &str) -> Option<Point> {
    let mut parts = text.split('/').map(|part| part.parse().ok());
    let point = Point { row: parts.next()??, column: parts.next()??, layer: parts.next()?? };
    parts.next().is_none().then_some(point)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_read_as_it_was_written_and_anything_else_is_a_name() {
        for subject in [
            Subject::Whole,
            Subject::Point(Point { row: 2, column: 3, layer: 4 }),
            Subject::Layer(2),
            Subject::Name("l2/p03/temp".to_owned()),
            Subject::Devices("air1".to_owned(), "air2".to_owned()),
        ] {
            assert_eq!(subject.to_string().parse(), Ok(subject));
        }
        for text in ["p1", "point:1/2", "point:1/2/3/4", "layer:top", "devices:one", "urn:dev"] {
            assert_eq!(text.parse(), Ok(Subject::Name(text.to_owned())));
        }
    }
}
