//! Content negotiation: in which form a client wants its answer.

use http::HeaderMap;

use super::options::Query;
use crate::apiserver::status::ApiError;
use crate::apiserver::table::Include;

/// The form of an answer about objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// The objects themselves.
    #[default]
    Objects,
    /// `as=Table`: rows as kubectl prints them.
    Table(Include),
    /// `as=PartialObjectMetadata`: metadata only.
    Metadata,
}

/// How the answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Media {
    #[default]
    Json,
    Yaml,
}

/// What a client accepts, of what the server offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accept {
    pub(crate) form: Form,
    pub(crate) media: Media,
}

/// One clause of an Accept header.
pub(crate) struct Clause<'h> {
    pub(crate) media: &'h str,
    parameters: Vec<(&'h str, &'h str)>,
}

impl<'h> Clause<'h> {
    pub(crate) fn parameter(&self, name: &str) -> Option<&'h str> {
        self.parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }
}

/// The clauses of the Accept header in their order; a missing header accepts anything.
pub(crate) fn clauses(headers: &HeaderMap) -> Vec<Clause<'_>> {
    let header = headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok());
    let text = header.filter(|text| !text.trim().is_empty()).unwrap_or("*/*");
    text.split(',')
        .map(|clause| {
            let mut parts = clause.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            Clause { media, parameters: parts.filter_map(|part| part.split_once('=')).collect() }
        })
        .collect()
}

/// Chooses the first form that the server has.
pub(crate) fn negotiate(headers: &HeaderMap, query: &Query) -> Result<Accept, ApiError> {
    for clause in clauses(headers) {
        let media = match clause.media {
            "application/json" | "application/*" | "*/*" => Media::Json,
            "application/yaml" => Media::Yaml,
            _ => continue,
        };
        let meta = clause.parameter("g").is_none_or(|group| group == "meta.k8s.io")
            && clause.parameter("v").is_none_or(|version| version == "v1");
        let form = match clause.parameter("as") {
            None => Form::Objects,
            Some("Table") if meta => Form::Table(include(query)?),
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") if meta => Form::Metadata,
            Some(_) => continue,
        };
        return Ok(Accept { form, media });
    }
    Err(ApiError::NotAcceptable(
        "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, \
         application/json;stream=watch"
            .to_owned(),
    ))
}

fn include(query: &Query) -> Result<Include, ApiError> {
    match query.get("includeObject") {
        None | Some("Metadata") => Ok(Include::Metadata),
        Some("None") => Ok(Include::None),
        Some("Object") => Ok(Include::Object),
        Some(other) => Err(ApiError::bad_request(format!(
            "includeObject: Invalid value: \"{other}\": must be 'Metadata', 'Object', 'None', or empty"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(header: &str, query: &str) -> Result<Accept, ApiError> {
        let mut headers = HeaderMap::new();
        if !header.is_empty() {
            headers.insert(http::header::ACCEPT, header.parse().unwrap());
        }
        negotiate(&headers, &Query::parse(query))
    }

    #[test]
    fn the_first_form_that_is_offered_is_chosen() {
        let table = Form::Table(Include::Metadata);
        let cases = [
            ("", "", Form::Objects, Media::Json),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "", table, Media::Json),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io",
                "includeObject=Object",
                Form::Table(Include::Object),
                Media::Json,
            ),
            (
                "application/json;as=Table;v=v1beta9;g=meta.k8s.io,application/json",
                "",
                Form::Objects,
                Media::Json,
            ),
            ("application/vnd.kubernetes.protobuf,application/json", "", Form::Objects, Media::Json),
            ("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1", "", Form::Metadata, Media::Json),
            ("application/yaml", "", Form::Objects, Media::Yaml),
            ("text/html, */*;q=0.8", "", Form::Objects, Media::Json),
        ];
        for (header, query, form, media) in cases {
            assert_eq!(accept(header, query).unwrap(), Accept { form, media }, "{header}");
        }
    }

    #[test]
    fn what_nobody_offers_is_not_acceptable() {
        assert_eq!(accept("text/html", "").unwrap_err().code(), 406);
        assert_eq!(accept("application/json;as=Table", "includeObject=x").unwrap_err().code(), 400);
    }
}
