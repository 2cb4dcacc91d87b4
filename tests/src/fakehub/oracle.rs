//! Judges every message by what GitHub publishes of its own interface: `@octokit/openapi` requests and responses,
//! `@octokit/webhooks-schemas` webhooks. `cargo xtask test` puts them into `target/xtask/octokit`.
//!
//! Exactly two places of them are known to be wrong, and are mended here: the repository and the user of a pull request's head
//! may be null.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use jsonschema::{Draft, Validator};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

/// What GitHub publishes, read once a process.
pub struct Oracle {
    openapi: Value,
    webhooks: Value,
    operations: Vec<Operation>,
    validators: Mutex<BTreeMap<String, Arc<Validator>>>,
}

/// One method of one path.
#[derive(Debug)]
pub struct Operation {
    /// Upper case.
    pub method: String,
    /// As published, `/repos/{owner}/{repo}`.
    pub path: String,
}

/// The folder that `cargo xtask test` fills.
#[must_use]
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/xtask/octokit")
}

pub(crate) fn file(name: &str) -> String {
    let path = folder().join(name);
    std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; `cargo xtask test` fetches GitHub's schemas", path.display()))
}

/// The oracle of this process.
pub fn oracle() -> &'static Oracle {
    static ORACLE: OnceLock<Oracle> = OnceLock::new();
    ORACLE.get_or_init(Oracle::read)
}

impl Oracle {
    fn read() -> Oracle {
        let parse =
            |name: &str| serde_json::from_str::<Value>(&file(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (mut openapi, webhooks) = (parse("openapi.json"), parse("webhooks.json"));
        unite(&mut openapi);
        mend(&mut openapi);
        let mut operations = Vec::new();
        for (path, methods) in openapi["paths"].as_object().into_iter().flatten() {
            for method in methods.as_object().into_iter().flatten().map(|(method, _)| method) {
                operations.push(Operation { method: method.to_uppercase(), path: path.clone() });
            }
        }
        // The more is fixed, the better the match.
        operations.sort_by_key(|operation| operation.path.matches('{').count());
        Oracle { openapi, webhooks, operations, validators: Mutex::default() }
    }

    /// The published operation of a request, and its path's parameters.
    #[must_use]
    pub fn operation(&self, method: &str, path: &str) -> Option<(&Operation, BTreeMap<String, String>)> {
        let of_method = self.operations.iter().filter(|operation| operation.method == method);
        let exact = of_method.clone().find_map(|operation| Some((operation, matched(&operation.path, path, false)?)));
        exact.or_else(|| {
            of_method.clone().find_map(|operation| Some((operation, matched(&operation.path, path, true)?)))
        })
    }

    fn published(&self, operation: &Operation) -> &Value {
        &self.openapi["paths"][&operation.path][operation.method.to_lowercase()]
    }

    /// What is wrong with a request.
    #[must_use]
    pub fn request(&self, operation: &Operation, query: &[(String, String)], body: Option<&Value>) -> Vec<String> {
        let published = self.published(operation);
        let name = format!("{} {}", operation.method, operation.path);
        let parameters = published["parameters"].as_array().into_iter().flatten().map(|one| self.follow(one));
        let known: BTreeMap<&str, &Value> = parameters
            .filter(|one| one["in"] == "query")
            .filter_map(|one| Some((one["name"].as_str()?, &one["schema"])))
            .collect();
        let mut wrong = Vec::new();
        for (key, text) in query {
            match known.get(key.as_str()) {
                None => wrong.push(format!("{name}: there is no query parameter {key}")),
                Some(schema) => {
                    let schema = self.follow(schema);
                    let value = coerced(schema, text);
                    wrong.extend(self.check(&format!("{name} ?{key}"), schema, &value));
                }
            }
        }
        let expected = self.follow(&published["requestBody"]);
        let schema = &expected["content"]["application/json"]["schema"];
        match body {
            Some(body) if schema.is_object() => wrong.extend(self.check(&format!("{name} body"), schema, body)),
            Some(_) => wrong.push(format!("{name} takes no body")),
            None if expected["required"] == true => wrong.push(format!("{name} needs a body")),
            None => {}
        }
        wrong
    }

    /// The schema of a response; none if it has no body, an error if the status is not published.
    fn response_schema(&self, operation: &Operation, status: u16) -> Result<Option<&Value>, String> {
        let answers = &self.published(operation)["responses"];
        let answer = &answers[status.to_string()];
        if answer.is_null() {
            let known: Vec<&String> = answers.as_object().into_iter().flatten().map(|(status, _)| status).collect();
            return Err(format!("{} {} answers {known:?}, not {status}", operation.method, operation.path));
        }
        let schema = &self.follow(answer)["content"]["application/json"]["schema"];
        Ok(Some(schema).filter(|schema| schema.is_object()))
    }

    /// What is wrong with a response.
    #[must_use]
    pub fn response(&self, operation: &Operation, status: u16, body: Option<&Value>) -> Vec<String> {
        let name = format!("{} {} -> {status}", operation.method, operation.path);
        match (self.response_schema(operation, status), body) {
            (Err(why), _) => vec![why],
            (Ok(None), None) => Vec::new(),
            (Ok(None), Some(_)) => vec![format!("{name} has no body")],
            (Ok(Some(_)), None) => vec![format!("{name} has a body")],
            (Ok(Some(schema)), Some(body)) => self.check(&name, schema, body),
        }
    }

    /// The response with everything filled in that the schema wants and nobody cares about.
    #[must_use]
    pub fn completed(&self, operation: &Operation, status: u16, body: Value) -> Value {
        match self.response_schema(operation, status) {
            Ok(Some(schema)) => complete(&self.openapi, schema, body, 0),
            _ => body,
        }
    }

    /// The webhook with everything filled in that its schema wants.
    ///
    /// # Panics
    /// When there is no such event.
    #[must_use]
    pub fn webhook(&self, event: &str, payload: Value) -> Value {
        complete(&self.webhooks, self.event(event, payload["action"].as_str()), payload, 0)
    }

    fn event(&self, event: &str, action: Option<&str>) -> &Value {
        let definitions = &self.webhooks["definitions"];
        let named = action.map(|action| &definitions[format!("{event}${action}")]).filter(|found| found.is_object());
        let whole = [format!("{event}$event"), format!("{event}_event")];
        let whole = whole.iter().map(|name| &definitions[name]).find(|found| found.is_object());
        named.or(whole).unwrap_or_else(|| panic!("GitHub has no event {event} with the action {action:?}"))
    }

    /// What is wrong with a webhook.
    #[must_use]
    pub fn check_webhook(&self, event: &str, payload: &Value) -> Vec<String> {
        let action = payload["action"].as_str();
        self.check_in(&self.webhooks, &format!("webhook {event} {action:?}"), self.event(event, action), payload)
    }

    fn follow<'v>(&'v self, value: &'v Value) -> &'v Value {
        follow(&self.openapi, value)
    }

    fn check(&self, name: &str, schema: &Value, value: &Value) -> Vec<String> {
        self.check_in(&self.openapi, name, schema, value)
    }

    fn check_in(&self, root: &Value, name: &str, schema: &Value, value: &Value) -> Vec<String> {
        let validator = self.validator(root, name, schema);
        let errors = validator.iter_errors(value);
        errors.map(|error| format!("{name}: {}: {error}", error.instance_path()).chars().take(600).collect()).collect()
    }

    fn validator(&self, root: &Value, name: &str, schema: &Value) -> Arc<Validator> {
        let mut validators = self.validators.lock().expect("the oracle is whole");
        let known = validators.entry(name.to_owned()).or_insert_with(|| {
            let document = with_references(root, schema);
            let built = jsonschema::options().with_draft(Draft::Draft7).build(&document);
            Arc::new(built.unwrap_or_else(|error| panic!("the schema of {name}: {error}")))
        });
        known.clone()
    }
}

/// A schema as a document of its own, with whatever it leads to.
fn with_references(root: &Value, schema: &Value) -> Value {
    let mut document = Map::from_iter([("allOf".to_owned(), json!([schema]))]);
    let (mut seen, mut queue) = (BTreeSet::new(), vec![schema]);
    while let Some(value) = queue.pop() {
        match value {
            Value::Object(map) => {
                if let Some(path) = map.get("$ref").and_then(Value::as_str).filter(|path| !seen.contains(*path)) {
                    seen.insert(path);
                    let target = follow(root, value);
                    queue.push(target);
                    put(&mut document, path, target);
                }
                queue.extend(map.values());
            }
            Value::Array(items) => queue.extend(items),
            _ => {}
        }
    }
    Value::Object(document)
}

fn put(document: &mut Map<String, Value>, path: &str, target: &Value) {
    let mut steps: Vec<String> =
        path.trim_start_matches("#/").split('/').map(|step| step.replace("~1", "/").replace("~0", "~")).collect();
    let Some(last) = steps.pop() else { return };
    let mut at = document;
    for step in steps {
        let inner = at.entry(step).or_insert_with(|| json!({}));
        let Value::Object(inner) = inner else { return };
        at = inner;
    }
    at.insert(last, target.clone());
}

fn follow<'v>(root: &'v Value, mut value: &'v Value) -> &'v Value {
    while let Some(path) = value["$ref"].as_str() {
        value = root.pointer(path.trim_start_matches('#')).unwrap_or_else(|| panic!("{path} leads nowhere"));
    }
    value
}

/// Parameters that may hold slashes.
const LONG: [&str; 4] = ["ref", "branch", "basehead", "path"];

/// The path's parameters if it is of that shape. `long`: the last parameter takes all that is left.
fn matched(template: &str, path: &str, long: bool) -> Option<BTreeMap<String, String>> {
    let (mut shape, mut parts) = (template.split('/').peekable(), path.split('/'));
    let mut found = BTreeMap::new();
    while let Some(step) = shape.next() {
        let mut part = parts.next()?.to_owned();
        if let Some(name) =
            step.strip_prefix('{').and_then(|step| step.strip_suffix('}')).filter(|name| !name.contains('}'))
        {
            if long && shape.peek().is_none() && LONG.contains(&name) {
                part = parts.by_ref().fold(part, |long, part| format!("{long}/{part}"));
            }
            let part = percent_decode_str(&part).decode_utf8_lossy().into_owned();
            found.insert(name.to_owned(), Some(part).filter(|part| !part.is_empty())?);
        } else if step != part {
            return None;
        }
    }
    parts.next().is_none().then_some(found)
}

fn coerced(schema: &Value, text: &str) -> Value {
    let number = text.parse::<i64>().ok().map(Value::from);
    match schema["type"].as_str() {
        Some("integer" | "number") => number.unwrap_or_else(|| text.into()),
        Some("boolean") => text.parse::<bool>().map_or_else(|_| text.into(), Value::from),
        Some("array") => text.split(',').collect(),
        Some(_) => text.into(),
        None => number.unwrap_or_else(|| text.into()),
    }
}

/// `nullable` of OpenAPI 3.0 becomes what JSON Schema says instead.
fn unite(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(unite);
            if map.get("nullable") != Some(&Value::Bool(true)) {
                return;
            }
            map.remove("nullable");
            if let Some(kind @ Value::String(_)) = map.get("type").cloned() {
                map.insert("type".to_owned(), json!([kind, "null"]));
                if let Some(Value::Array(allowed)) = map.get_mut("enum") {
                    allowed.push(Value::Null);
                }
            } else {
                let inner = std::mem::take(map);
                map.insert("anyOf".to_owned(), json!([inner, { "type": "null" }]));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(unite),
        _ => {}
    }
}

/// The two exceptions. The list may not grow.
fn mend(openapi: &mut Value) {
    for schema in ["pull-request", "pull-request-simple"] {
        for field in ["repo", "user"] {
            let place =
                openapi.pointer_mut(&format!("/components/schemas/{schema}/properties/head/properties/{field}"));
            let place = place.unwrap_or_else(|| panic!("{schema} has no head.{field} any more"));
            *place = json!({ "anyOf": [place, { "type": "null" }] });
        }
    }
}

/// The deepest that anything is filled in.
const DEPTH: usize = 12;

/// Fills in what a schema requires and leaves out what it refuses. Of alternatives the first that is no null is taken.
fn complete(root: &Value, schema: &Value, value: Value, depth: usize) -> Value {
    let schema = follow(root, schema);
    if value.is_null() || depth > DEPTH {
        return value;
    }
    let mut value = value;
    for part in schema["allOf"].as_array().into_iter().flatten() {
        value = complete(root, part, value, depth);
    }
    for key in ["anyOf", "oneOf"] {
        let mut parts = schema[key].as_array().into_iter().flatten().map(|part| follow(root, part));
        let fits = |part: &&Value| {
            let kind = &part["type"];
            let is = |kind: &str| matches!((kind, &value), ("array", Value::Array(_)) | ("object", Value::Object(_)));
            kind.as_str().map_or(kind.is_array() || kind.is_null(), is)
        };
        if let Some(part) = parts.find(fits) {
            value = complete(root, part, value, depth);
        }
    }
    match value {
        Value::Array(items) if schema["items"].is_object() => {
            items.into_iter().map(|item| complete(root, &schema["items"], item, depth + 1)).collect()
        }
        Value::Object(map) => Value::Object(complete_object(root, schema, map, depth)),
        other => other,
    }
}

fn complete_object(root: &Value, schema: &Value, mut map: Map<String, Value>, depth: usize) -> Map<String, Value> {
    let Some(properties) = schema["properties"].as_object() else { return map };
    if schema["additionalProperties"] == false {
        map.retain(|key, _| properties.contains_key(key));
    }
    for (key, value) in &mut map {
        if let Some(property) = properties.get(key) {
            *value = complete(root, property, value.take(), depth + 1);
        }
    }
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !map.contains_key(key) {
            let property = properties.get(key).cloned().unwrap_or_default();
            map.insert(key.to_owned(), blank(root, &property, depth + 1));
        }
    }
    map
}

/// The least that a schema accepts.
fn blank(root: &Value, schema: &Value, depth: usize) -> Value {
    let schema = follow(root, schema);
    if let Some(value) = schema["enum"].as_array().and_then(|allowed| allowed.first()) {
        return value.clone();
    }
    if !schema["const"].is_null() {
        return schema["const"].clone();
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        let Some(parts) = schema[key].as_array() else { continue };
        if key != "allOf" && parts.iter().any(|part| follow(root, part)["type"] == "null") {
            return Value::Null;
        }
        if let Some(first) = parts.first() {
            return blank(root, first, depth);
        }
    }
    let kinds = &schema["type"];
    if kinds.as_array().is_some_and(|kinds| kinds.contains(&json!("null"))) {
        return Value::Null;
    }
    match kinds.as_str().or_else(|| kinds[0].as_str()) {
        Some("string") => text(schema).into(),
        Some("integer" | "number") => schema["minimum"].as_i64().unwrap_or(0).into(),
        Some("boolean") => false.into(),
        Some("array") => json!([]),
        _ => Value::Object(complete_object(root, schema, Map::new(), depth)),
    }
}

fn text(schema: &Value) -> &'static str {
    match schema["format"].as_str() {
        Some("uri" | "uri-template") => "https://github.invalid/unused",
        Some("date-time") => "2024-01-01T00:00:00Z",
        Some("email") => "nobody@github.invalid",
        _ => "unused",
    }
}
