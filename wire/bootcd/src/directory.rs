//! Directories and path tables (ECMA-119 §9.1, §9.4).

use std::collections::BTreeMap;

use crate::{CdError, File, SECTOR, both16, both32};

/// A directory of the volume.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// Its own name; empty: the root.
    name: String,
    /// Which directory it is in; the root is in itself.
    parent: usize,
    /// By name: which directory, or which file.
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, Copy)]
enum Entry {
    Directory(usize),
    File(usize),
}

/// Where something is, in sectors and bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) sector: u32,
    pub(crate) len: u32,
}

/// The directories that the files' paths name, the root first, then level by level as path tables want them
/// (§6.9.1).
pub(crate) fn tree(files: &[File<'_>]) -> Result<Vec<Directory>, CdError> {
    let bad = |path: &str| CdError::Name(path.chars().take(80).collect());
    let mut tree = vec![Directory::default()];
    let mut paths: Vec<(Vec<String>, usize)> = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let names: Vec<String> = file.path.split('/').map(str::to_ascii_uppercase).collect();
        if !names.iter().all(|name| is_name(name)) || names.len() > DEEPEST {
            return Err(bad(file.path));
        }
        paths.push((names, index));
    }
    // Directories of one level are numbered in the order of their parents and then of their names.
    let mut at: BTreeMap<Vec<String>, usize> = BTreeMap::from([(Vec::new(), 0)]);
    for depth in 1..DEEPEST {
        let of_level = paths.iter().filter(|(names, _)| names.len() > depth);
        let mut level: Vec<(usize, Vec<String>)> = Vec::new();
        for (names, _) in of_level {
            let (parent, own) = (names.get(..depth - 1), names.get(..depth));
            if let Some((parent, own)) = parent.and_then(|parent| at.get(parent)).zip(own) {
                level.push((*parent, own.to_vec()));
            }
        }
        level.sort();
        level.dedup();
        for (parent, names) in level {
            let (own, name) = (tree.len(), names.last().cloned().unwrap_or_default());
            insert(&mut tree, parent, &name, Entry::Directory(own)).ok_or_else(|| bad(&name))?;
            tree.push(Directory { name, parent, entries: BTreeMap::new() });
            at.insert(names, own);
        }
    }
    for (names, index) in paths {
        let path = names.join("/");
        let (name, parents) = names.split_last().ok_or_else(|| bad(&path))?;
        let parent = at.get(parents).copied().ok_or_else(|| bad(&path))?;
        insert(&mut tree, parent, &format!("{name};1"), Entry::File(index)).ok_or_else(|| bad(&path))?;
    }
    Ok(tree)
}

/// `None`: the name is taken.
fn insert(tree: &mut [Directory], parent: usize, name: &str, entry: Entry) -> Option<()> {
    let entries = &mut tree.get_mut(parent)?.entries;
    // A file and a directory of one name are two to the format and one to people.
    let taken =
        entries.contains_key(name.trim_end_matches(";1")) || entries.contains_key(&format!("{name};1"));
    if taken || entries.contains_key(name) {
        return None;
    }
    entries.insert(name.to_owned(), entry);
    Some(())
}

/// One sector: itself, its parent, what is in it.
pub(crate) fn sector(
    tree: &[Directory],
    index: usize,
    directories: &[Extent],
    files: &[Extent],
) -> Result<Vec<u8>, CdError> {
    let own = tree.get(index).ok_or(CdError::Crowded)?;
    let place = |index: usize| directories.get(index).copied().ok_or(CdError::Crowded);
    let mut out = Vec::new();
    out.extend(record(&[0], place(index)?, true));
    out.extend(record(&[1], place(own.parent)?, true));
    for (name, entry) in &own.entries {
        let (extent, is_directory) = match entry {
            Entry::Directory(index) => (place(*index)?, true),
            Entry::File(index) => (files.get(*index).copied().ok_or(CdError::Crowded)?, false),
        };
        out.extend(record(name.as_bytes(), extent, is_directory));
    }
    let size = usize::try_from(SECTOR).unwrap_or(usize::MAX);
    if out.len() > size {
        return Err(CdError::Crowded);
    }
    out.resize(size, 0);
    Ok(out)
}

/// A directory record (§9.1). Without a date, which nobody asks for.
pub(crate) fn record(name: &[u8], extent: Extent, is_directory: bool) -> Vec<u8> {
    let padded = name.len() + usize::from(name.len().is_multiple_of(2));
    let mut out = vec![u8::try_from(33 + padded).unwrap_or(u8::MAX), 0];
    out.extend(both32(extent.sector));
    out.extend(both32(extent.len));
    out.extend([0; 7]);
    out.extend([if is_directory { 2 } else { 0 }, 0, 0]);
    out.extend(both16(1));
    out.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    out.extend(name);
    out.resize(33 + padded, 0);
    out
}

/// A path table (§9.4), its numbers little endian or big.
pub(crate) fn path_table(tree: &[Directory], directories: &[Extent], big: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for (directory, extent) in tree.iter().zip(directories) {
        let name = if directory.name.is_empty() { &[0][..] } else { directory.name.as_bytes() };
        let parent = u16::try_from(directory.parent + 1).unwrap_or(u16::MAX);
        out.extend([u8::try_from(name.len()).unwrap_or(u8::MAX), 0]);
        out.extend(if big { extent.sector.to_be_bytes() } else { extent.sector.to_le_bytes() });
        out.extend(if big { parent.to_be_bytes() } else { parent.to_le_bytes() });
        out.extend(name);
        if name.len() % 2 == 1 {
            out.push(0);
        }
    }
    out
}

/// More than the standard's d-characters: what boot loaders look for has dots in front, and readers do not mind.
fn is_name(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b"_-.".contains(&b);
    (1..=31).contains(&name.len()) && name.bytes().all(letter) && !matches!(name, "." | "..")
}

/// Levels of directories, the root included (§6.8.2.1).
const DEEPEST: usize = 8;
