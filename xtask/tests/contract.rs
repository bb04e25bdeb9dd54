//! The shape of the API: buf's STANDARD and COMMENTS rules over the compiled descriptors, with the
//! exceptions that the house made (answers are resources, requests are shared by nobody but named freely).

use std::collections::BTreeMap;

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet, ServiceDescriptorProto,
};

#[test]
fn the_api_keeps_to_its_style() {
    let set = FileDescriptorSet::decode(farrier_proto::DESCRIPTORS).unwrap();
    let ours: Vec<_> = set.file.iter().filter(|file| file.package().starts_with("farrier.")).collect();
    assert!(ours.len() > 10, "the descriptors hold {} files of ours", ours.len());
    let found: Vec<String> = ours.into_iter().flat_map(|file| Checked::new(file).complaints()).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn what_breaks_the_style_is_found() {
    use prost_types::{EnumValueDescriptorProto, MethodDescriptorProto};
    let file = FileDescriptorProto {
        name: Some("farrier/inventory/v1/x.proto".into()),
        package: Some("farrier.images.v1".into()),
        service: vec![ServiceDescriptorProto {
            name: Some("Things".into()),
            method: vec![MethodDescriptorProto {
                name: Some("get_thing".into()),
                input_type: Some(".farrier.images.v1.Thing".into()),
                ..Default::default()
            }],
            ..Default::default()
        }],
        enum_type: vec![EnumDescriptorProto {
            name: Some("ThingState".into()),
            value: vec![EnumValueDescriptorProto {
                name: Some("ON".into()),
                number: Some(0),
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    };
    let found = Checked::new(&file).complaints().join("\n");
    for rule in ["package", "Service", "PascalCase", "Request", "UNSPECIFIED", "THING_STATE_", "comment"] {
        assert!(found.contains(rule), "no complaint about {rule} in\n{found}");
    }
}

struct Checked<'a> {
    file: &'a FileDescriptorProto,
    comments: BTreeMap<&'a [i32], &'a str>,
    found: Vec<String>,
}

// Field numbers in descriptor.proto: what a path in the source info is made of.
const MESSAGE: i32 = 4;
const ENUM: i32 = 5;
const SERVICE: i32 = 6;
const METHOD: i32 = 2;
const NESTED_MESSAGE: i32 = 3;
const NESTED_ENUM: i32 = 4;

impl<'a> Checked<'a> {
    fn new(file: &'a FileDescriptorProto) -> Self {
        let locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let comments = locations.map(|at| (at.path.as_slice(), at.leading_comments())).collect();
        Self { file, comments, found: Vec::new() }
    }

    fn complaints(mut self) -> Vec<String> {
        let file = self.file;
        let directory = file.name().rsplit_once('/').map_or("", |(directory, _)| directory);
        if file.package() != directory.replace('/', ".") {
            self.complain(file.package(), &format!("package is not the directory {directory}"));
        }
        if !file.package().rsplit('.').next().is_some_and(is_version) {
            self.complain(file.package(), "package has no version at its end");
        }
        for (index, service) in (0..).zip(&file.service) {
            self.service(service, &[SERVICE, index]);
        }
        for (index, message) in (0..).zip(&file.message_type) {
            self.message(message, message.name(), &[MESSAGE, index]);
        }
        for (index, kind) in (0..).zip(&file.enum_type) {
            self.enumeration(kind, &[ENUM, index]);
        }
        self.found
    }

    fn service(&mut self, service: &ServiceDescriptorProto, path: &[i32]) {
        let name = service.name();
        if !name.ends_with("Service") {
            self.complain(name, "a service's name ends in Service");
        }
        self.commented(name, path);
        for (index, method) in (0..).zip(&service.method) {
            let what = format!("{name}.{}", method.name());
            if !is_pascal(method.name()) {
                self.complain(&what, "an rpc's name is PascalCase");
            }
            let input = method.input_type().rsplit('.').next().unwrap_or_default();
            if input != format!("{}Request", method.name()) {
                self.complain(&what, &format!("takes {input}, expected {}Request", method.name()));
            }
            // A rule of ours: what Create, Get, List and Delete do needs no words, the rest does.
            let plain =
                ["Create", "Get", "List", "Update", "Delete"].iter().any(|v| method.name().starts_with(v));
            if !plain {
                self.commented(&what, &[path, &[METHOD, index]].concat());
            }
        }
    }

    fn message(&mut self, message: &DescriptorProto, name: &str, path: &[i32]) {
        if !is_pascal(message.name()) {
            self.complain(name, "a message's name is PascalCase");
        }
        // Requests and answers are explained by their rpc, map entries are made by the compiler.
        let of_rpc = message.name().ends_with("Request") || message.name().ends_with("Response");
        let entry = message.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry);
        if entry {
            return;
        }
        if !of_rpc && path.len() == 2 {
            self.commented(name, path);
        }
        for field in &message.field {
            if !is_snake(field.name()) {
                self.complain(&format!("{name}.{}", field.name()), "a field's name is lower_snake_case");
            }
        }
        for (index, nested) in (0..).zip(&message.nested_type) {
            let name = format!("{name}.{}", nested.name());
            self.message(nested, &name, &[path, &[NESTED_MESSAGE, index]].concat());
        }
        for (index, nested) in (0..).zip(&message.enum_type) {
            self.enumeration(nested, &[path, &[NESTED_ENUM, index]].concat());
        }
    }

    fn enumeration(&mut self, kind: &EnumDescriptorProto, path: &[i32]) {
        let prefix = upper_snake(kind.name()) + "_";
        for value in &kind.value {
            let name = value.name();
            if !name.starts_with(&prefix) {
                self.complain(name, &format!("a value of {} begins with {prefix}", kind.name()));
            }
            if value.number() == 0 && name != format!("{prefix}UNSPECIFIED") {
                self.complain(name, &format!("the zero of {} is {prefix}UNSPECIFIED", kind.name()));
            }
        }
        if path.len() == 2 {
            self.commented(kind.name(), path);
        }
    }

    fn commented(&mut self, what: &str, path: &[i32]) {
        if self.comments.get(path).is_none_or(|comment| comment.trim().is_empty()) {
            self.complain(what, "has no comment");
        }
    }

    fn complain(&mut self, what: &str, why: &str) {
        self.found.push(format!("{}: {what}: {why}", self.file.name()));
    }
}

fn is_version(part: &str) -> bool {
    part.strip_prefix('v').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

fn is_pascal(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.bytes().all(|b| b.is_ascii_alphanumeric())
}

fn is_snake(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn upper_snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_uppercase());
    }
    out
}
