//! The files that a policy is in: read whole, all that is wrong with them told at once.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use clap::Args;
use trama_proto::{
    Problem,
    document::{Document, ResourceId},
    policy::v1,
};

use crate::failure::Failure;

/// What stands for the standard input.
const STDIN: &str = "-";
/// What is read in a folder.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

// Where a policy is.
#[derive(Debug, Args)]
pub(crate) struct Sources {
    /// A file with resources, a folder (all `.yaml`, `.yml` and `.json` files in it and below), or `-` for the standard
    /// input. May be given several times.
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR|-", required = true, value_hint = clap::ValueHint::AnyPath)]
    pub(crate) files: Vec<PathBuf>,
}

impl Sources {
    pub(crate) fn read(&self) -> Result<Files, Failure> {
        Files::read(&self.files)
    }
}

/// Resources out of files, each one once.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) documents: Vec<Document>,
}

impl Files {
    pub(crate) fn read(names: &[PathBuf]) -> Result<Self, Failure> {
        let (mut documents, mut problems) = (Vec::new(), Vec::new());
        for file in names.iter().flat_map(|name| all(name)) {
            match file.and_then(|(name, text)| Document::parse(&name, &text)) {
                Ok(found) => documents.extend(found),
                Err(found) => problems.extend(found),
            }
        }
        problems.extend(twice(&documents));
        if !problems.is_empty() {
            return Err(Failure::Refused(problems));
        }
        if documents.is_empty() {
            let names: Vec<_> = names.iter().map(|name| name.display().to_string()).collect();
            let remedy = format!("name files with resources, or folders with .{} files", ENDINGS.join(", ."));
            return Err(Failure::of_file(&names.join(", "), "there is no resource", remedy));
        }
        Ok(Self { documents })
    }

    /// Their names in the order of the files.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &ResourceId> {
        self.documents.iter().map(|document| &document.id)
    }

    /// The resources as messages, in the order of the files.
    pub(crate) fn resources(&self) -> impl Iterator<Item = v1::Resource> {
        self.documents.iter().map(|document| v1::Resource { kind: Some(document.resource.clone()) })
    }
}

/// A file's name and its text.
type Text = Result<(String, String), Vec<Problem>>;

/// All files that a name on the command line stands for.
fn all(name: &Path) -> Vec<Text> {
    if name == Path::new(STDIN) {
        let mut text = String::new();
        let read = io::stdin().read_to_string(&mut text);
        return vec![read.map(|_| ("stdin".to_owned(), text)).map_err(|error| unreadable(name, &error))];
    }
    if !name.is_dir() {
        return vec![read(name)];
    }
    let mut found = Vec::new();
    walk(name, &mut found);
    found
}

fn read(file: &Path) -> Text {
    let text = fs::read_to_string(file).map_err(|error| unreadable(file, &error))?;
    Ok((file.display().to_string(), text))
}

/// In the order of names. Hidden files are left out, and folders behind symbolic links, which could lead in circles.
fn walk(folder: &Path, found: &mut Vec<Text>) {
    let listed = fs::read_dir(folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    let mut entries = match listed {
        Ok(entries) => entries,
        Err(error) => return found.push(Err(unreadable(folder, &error))),
    };
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries.iter().filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')) {
        let path = entry.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&path, found),
            Err(error) => found.push(Err(unreadable(&path, &error))),
            Ok(_) if !ending.is_some_and(|ending| ENDINGS.contains(&ending)) || path.is_dir() => {}
            Ok(_) => found.push(read(&path)),
        }
    }
}

fn unreadable(file: &Path, error: &io::Error) -> Vec<Problem> {
    let problem = format!("cannot be read: {error}");
    vec![Problem::of_source(&file.display().to_string(), problem, "name a file of UTF-8 text, or `-`")]
}

/// Which of two should hold?
fn twice(documents: &[Document]) -> Vec<Problem> {
    let mut seen: HashMap<&ResourceId, &Document> = HashMap::new();
    let mut problems = Vec::new();
    for document in documents {
        if let Some(first) = seen.insert(&document.id, document) {
            let problem = format!("it is at {} already", first.place(""));
            let value = format!("{:?}", document.id.name);
            problems.push(document.problem("metadata.name", value, problem, "remove one of the two"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERS: &str =
        "kind: Service\nmetadata: { name: orders, namespace: shop }\nspec: { ports: [{ port: 80 }] }\n";

    fn told(names: &[&Path]) -> String {
        let names: Vec<_> = names.iter().map(|name| name.to_path_buf()).collect();
        Files::read(&names).unwrap_err().told().unwrap()
    }

    #[test]
    fn folders_are_read_in_the_order_of_names_and_never_in_circles() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::create_dir_all(path.join("b/deep")).unwrap();
        fs::create_dir(path.join(".git")).unwrap();
        for (file, name) in
            [("c.json", "c"), ("a.yaml", "a"), ("b/deep/x.yml", "b"), (".git/x.yaml", "hidden")]
        {
            fs::write(path.join(file), ORDERS.replace("orders", name)).unwrap();
        }
        fs::write(path.join("README.md"), "no policy").unwrap();
        std::os::unix::fs::symlink("..", path.join("b/up")).unwrap();
        std::os::unix::fs::symlink("b/deep/x.yml", path.join("again.txt")).unwrap();
        let files = Files::read(&[path.to_owned()]).unwrap();
        assert_eq!(files.ids().map(|id| id.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn every_problem_of_every_file_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let (bad, good, missing) = (
            folder.path().join("bad.yaml"),
            folder.path().join("good.yaml"),
            folder.path().join("none.yaml"),
        );
        fs::write(&bad, ORDERS.replace("ports", "prots")).unwrap();
        fs::write(&good, format!("{ORDERS}---\n{ORDERS}")).unwrap();
        let told = told(&[&bad, &good, &missing]);
        assert!(told.contains(&format!("{}:3:", bad.display())), "{told}");
        assert!(told.contains("spec.prots: unknown field; did you mean `ports`?"), "{told}");
        assert!(told.contains(&format!("{}: cannot be read: No such file", missing.display())), "{told}");
        let again = format!("Service shop/orders: metadata.name: it is at {}:1:1 already", good.display());
        assert!(told.contains(&again), "{told}");
    }

    #[test]
    fn nothing_at_all_is_a_slip() {
        let folder = tempfile::tempdir().unwrap();
        assert!(told(&[folder.path()]).contains("there is no resource; name files with resources"));
        let binary = folder.path().join("x.yaml");
        fs::write(&binary, [0xff, 0xfe]).unwrap();
        assert!(told(&[folder.path()]).contains("cannot be read"));
    }
}
