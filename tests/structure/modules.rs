//! The modules of `src`: what each defines, re-exports and names. Code under `cfg(test)` is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens as _;
use syn::{Attribute, Item, UseTree, Visibility};

/// A path such as `crate::message::Outcome`, segment by segment.
type Segments = Vec<String>;

/// What is in one file.
#[derive(Default)]
struct Module {
    lines: usize,
    /// Names that a `use` brings in, and what they stand for.
    imports: BTreeMap<String, Segments>,
    /// Modules of which everything is brought in.
    globs: Vec<Segments>,
    /// Every path in the code.
    paths: BTreeSet<Segments>,
}

/// All modules, by their path without `crate`: `destination::nats::outcome`.
pub struct Modules(BTreeMap<String, Module>);

impl Modules {
    /// Reads `src`.
    pub fn read() -> Modules {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        list(&root, &mut files);
        let modules = files.iter().filter_map(|path| {
            let inside = path.strip_prefix(&root).expect("below src").with_extension("");
            let name: Vec<_> = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            let left_out = name.iter().any(|part| part == "tests") || name == ["main"];
            let name = if name == ["lib"] { String::new() } else { name.join("::") };
            (!left_out).then(|| (name, Module::read(path)))
        });
        Modules(modules.collect())
    }

    /// Which module depends on which.
    pub fn edges(&self) -> BTreeMap<String, BTreeSet<String>> {
        let edges = self.0.iter().map(|(name, module)| {
            let used = module.globs.iter().chain(&module.paths).filter_map(|path| self.definer(name, path, 0));
            (name.clone(), used.filter(|used| used != name).collect())
        });
        edges.collect()
    }

    /// The crates that a module names.
    pub fn crates(&self, name: &str) -> BTreeSet<String> {
        let Some(module) = self.0.get(name) else { return BTreeSet::new() };
        let imported = module.imports.values().chain(&module.globs).chain(&module.paths);
        imported.filter_map(|path| path.first()).cloned().collect()
    }

    /// The number of lines of every module.
    pub fn lines(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0.iter().map(|(name, module)| (name.as_str(), module.lines))
    }

    /// The module that defines what a path in a module stands for; `None` where it is no part of this crate.
    fn definer(&self, from: &str, path: &[String], depth: usize) -> Option<String> {
        assert!(depth < 16, "{path:?} in {from} leads nowhere");
        let (first, mut rest) = path.split_first()?;
        let mut at: String = match first.as_str() {
            "crate" => String::new(),
            "self" => from.to_owned(),
            "super" => parent(from),
            name if self.0.contains_key(&join(from, name)) => join(from, name),
            name => {
                let known = self.0.get(from)?.imports.get(name)?;
                return self.definer(from, &[known, rest].concat(), depth + 1);
            }
        };
        while let Some((next, after)) = rest.split_first() {
            if next == "super" {
                at = parent(&at);
            } else if self.0.contains_key(&join(&at, next)) {
                at = join(&at, next);
            } else if let Some(known) = self.0.get(&at)?.imports.get(next).filter(|_| at != from) {
                return self.definer(&at, &[known, after].concat(), depth + 1);
            } else {
                return Some(at);
            }
            rest = after;
        }
        // A module itself: what is used of it is another path.
        None
    }
}

impl Module {
    fn read(path: &Path) -> Module {
        let text = fs::read_to_string(path).expect("readable");
        let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut module = Module { lines: text.lines().count(), ..Module::default() };
        for item in file.items {
            module.take(item);
        }
        module
    }

    fn take(&mut self, item: Item) {
        if attributes(&item).iter().any(only_in_tests) {
            return;
        }
        match item {
            Item::Use(item) => {
                // A re-export is no use of its own: whoever names it depends on what it stands for.
                let used = matches!(item.vis, Visibility::Inherited);
                self.import(&item.tree, &mut Vec::new(), used);
            }
            Item::Mod(item) => item.content.into_iter().flat_map(|(_, items)| items).for_each(|item| self.take(item)),
            other => self.paths_in(other.to_token_stream()),
        }
    }

    fn import(&mut self, tree: &UseTree, path: &mut Segments, used: bool) {
        match tree {
            UseTree::Path(tree) => {
                path.push(tree.ident.to_string());
                self.import(&tree.tree, path, used);
                path.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, path, used)),
            UseTree::Glob(_) => self.globs.push([path.as_slice(), &["*".to_owned()]].concat()),
            UseTree::Name(name) => self.bring(name.ident.to_string(), &name.ident.to_string(), path, used),
            UseTree::Rename(name) => self.bring(name.rename.to_string(), &name.ident.to_string(), path, used),
        }
    }

    fn bring(&mut self, name: String, item: &str, path: &[String], used: bool) {
        let (name, full) = match item {
            "self" => (path.last().cloned().unwrap_or(name), path.to_vec()),
            item => (name, [path, &[item.to_owned()]].concat()),
        };
        if used {
            self.paths.insert(full.clone());
        }
        self.imports.insert(name, full);
    }

    /// Every `a::b::c` in the code, also inside macros.
    fn paths_in(&mut self, tokens: TokenStream) {
        let mut path = Segments::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end(&mut path);
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                other => {
                    self.end(&mut path);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.paths_in(group.stream());
                    }
                }
            }
        }
        self.end(&mut path);
    }

    fn end(&mut self, path: &mut Segments) {
        let path = std::mem::take(path);
        if path.len() > 1 {
            self.paths.insert(path);
        }
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn only_in_tests(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg") && attribute.meta.to_token_stream().to_string().contains("test")
}

fn parent(name: &str) -> String {
    name.rsplit_once("::").map_or(String::new(), |(parent, _)| parent.to_owned())
}

fn join(module: &str, name: &str) -> String {
    if module.is_empty() { name.to_owned() } else { format!("{module}::{name}") }
}

fn list(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            list(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
