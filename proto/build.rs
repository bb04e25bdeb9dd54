//! Compiles `proto/farrier` with protox (pure Rust, no protoc on the machine) and keeps the
//! descriptor set, which reflection, authorisation checks and `xtask tidy` read.
//!
//! A field marked `debug_redact` is a secret: the message that has it gets a `Debug` that does not show it.
use protox::prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=farrier");
    let mut files = Vec::new();
    protos(Path::new("farrier"), &mut files)?;
    files.sort();
    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_source_info(true).include_imports(true).open_files(files)?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(out.join("farrier.binpb"), compiler.encode_file_descriptor_set())?;
    let pool = compiler.descriptor_pool();
    if let Some(field) = pool.all_messages().flat_map(|m| m.fields().collect::<Vec<_>>()).find(is_unmarked) {
        return Err(format!("{}: by its name a secret; mark it debug_redact", field.full_name()).into());
    }
    let secretive = secretive(&pool);
    for (package, code) in debug(&secretive) {
        std::fs::write(out.join(format!("{package}.debug.rs")), code)?;
    }
    tonic_prost_build::configure()
        .skip_debug(secretive.iter().map(|message| format!(".{}", message.full_name())))
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

fn protos(dir: &Path, out: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            protos(&path, out)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            out.push(path);
        }
    }
    Ok(())
}

/// The messages with a secret of their own.
fn secretive(pool: &DescriptorPool) -> Vec<MessageDescriptor> {
    pool.all_messages().filter(|message| message.fields().any(|field| is_secret(&field))).collect()
}

fn is_secret(field: &FieldDescriptor) -> bool {
    let options = field.options();
    let redact = options.get_field_by_name("debug_redact");
    redact.is_some_and(|value| value.as_bool() == Some(true))
}

/// Named like a secret, and not marked as one.
fn is_unmarked(field: &FieldDescriptor) -> bool {
    let name = field.name();
    let named = ["password", "secret", "token", "user_data"].iter().any(|word| name.ends_with(word));
    // Whether there is one, or of what kind, is none.
    named && field.kind() != Kind::Bool && !name.ends_with("page_token") && !is_secret(field)
}

/// `Debug` for each of `messages`, by package.
fn debug(messages: &[MessageDescriptor]) -> BTreeMap<String, String> {
    let mut code = BTreeMap::new();
    for message in messages {
        let package = message.package_name();
        let nested = message.full_name().strip_prefix(package).unwrap_or_default().trim_start_matches('.');
        let mut path: Vec<String> = nested.split('.').map(str::to_owned).collect();
        if let Some((_, parents)) = path.split_last_mut() {
            parents.iter_mut().for_each(|parent| *parent = snake(parent));
        }
        let mut body = String::new();
        for field in message.fields() {
            let name = field.name();
            let _ = if is_secret(&field) {
                write!(body, ".field({name:?}, &format_args!(\"hidden\"))")
            } else {
                write!(body, ".field({name:?}, &self.{name})")
            };
        }
        let text: &mut String = code.entry(package.to_owned()).or_default();
        let _ = writeln!(
            text,
            "impl ::core::fmt::Debug for {path} {{ fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{ f.debug_struct({name:?}){body}.finish() }} }}",
            path = path.join("::"),
            name = message.name(),
        );
    }
    code
}

/// As prost names the module of a message's inner messages.
fn snake(camel: &str) -> String {
    let mut out = String::new();
    for (i, letter) in camel.chars().enumerate() {
        if letter.is_uppercase() && i > 0 {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}
