//! `.dockerignore`: the cases of Docker's reference and of its own matcher.

use drivers::git::Dockerignore;
use proptest::prelude::*;

/// Lines, then paths that they leave out and paths that they keep.
const CASES: &[(&str, &[&str], &[&str])] = &[
    // Nothing, comments, blanks, carriage returns, a byte order mark.
    ("", &[], &["a", "a/b"]),
    ("# a\n\n   \n", &[], &["a", "# a"]),
    ("\u{feff}a\r\nb  \n  c", &["a", "b", "c"], &["d"]),
    // Only in the first column a `#` begins a comment.
    (" #a", &["#a"], &["a"]),
    // The examples of the reference.
    ("*/temp*", &["somedir/temporary.txt", "somedir/temp", "somedir/temp/x"], &["temp", "a/b/temp"]),
    ("*/*/temp*", &["somedir/subdir/temporary.txt"], &["somedir/temporary.txt", "temp"]),
    ("temp?", &["tempa", "tempb"], &["temp", "tempab", "x/tempa"]),
    ("**/*.go", &["a.go", "a/b.go", "a/b/c.go"], &["a.goo", "ago"]),
    ("*.md\n!README.md", &["a.md"], &["README.md", "a/b.md"]),
    ("*.md\n!README*.md\nREADME-secret.md", &["a.md", "README-secret.md"], &["README.md", "README-x.md"]),
    ("*.md\nREADME-secret.md\n!README*.md", &["a.md"], &["README.md", "README-secret.md"]),
    // A name is a path from the root, not any file of that name; it covers what lies below it.
    ("node_modules", &["node_modules", "node_modules/a/b"], &["x/node_modules/a", "node_modules2"]),
    ("/node_modules/", &["node_modules/a"], &["x/node_modules/a"]),
    ("**/node_modules", &["node_modules/a", "x/node_modules", "x/y/node_modules/z"], &["xnode_modules"]),
    ("a/b", &["a/b", "a/b/c"], &["a", "b", "x/a/b"]),
    ("./a/../b//c/.", &["b/c", "b/c/d"], &["a", "b"]),
    ("/../a", &["a"], &[]),
    ("../a", &[], &["a"]),
    (".", &[], &["a", ".a"]),
    ("/", &[], &["a"]),
    // Exceptions reach below a folder that is left out.
    ("docs\n!docs/README.md", &["docs/a", "docs/x/README.md"], &["docs/README.md"]),
    ("docs/*\n!docs/README.md", &["docs/a"], &["docs/README.md"]),
    ("*\n!src\n!package.json", &["a", "b/src"], &["src/a/b", "package.json"]),
    ("*\n!**/keep.txt", &["a/b"], &["keep.txt", "a/b/keep.txt"]),
    ("**\n!util/docker/web\nutil/docker/web/foo", &["a", "util/docker/web/foo"], &["util/docker/web/bar"]),
    ("!a\na", &["a"], &[]),
    ("  ! a\na\n! a", &[], &["a"]),
    // An exception for a folder comes too late for what was not left out when the folder was met.
    ("x/y\n!x", &["x/y"], &["x/z"]),
    ("x\n!x\nx/y", &["x/y"], &["x/z"]),
    // `**` in every place.
    ("**", &["a", "a/b", ".a"], &[]),
    ("**/**", &["a", "a/b"], &[]),
    ("a/**", &["a/b", "a/b/c"], &["a", "ab"]),
    ("a**", &["a", "ab", "a/b", "abc/d"], &["ba"]),
    ("**a", &["a", "ba", "x/ba", "ba/x"], &["ab"]),
    ("a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["a/xb", "b"]),
    ("a**/*.txt", &["a/f.txt", "a/x/y/f.txt"], &["f.txt"]),
    ("**/a*.txt", &["a.txt", "x/y/ab.txt"], &["x/ba.txt"]),
    ("**/b/**", &["a/b/c", "b/c/d"], &["a/b", "b"]),
    ("**/.foo", &[".foo", "a/.foo"], &["bar.foo"]),
    // Single wildcards stay within one part; a dot is like any other character.
    ("*", &["a", ".a", "a/b"], &[]),
    ("a*/b", &["abc/b", "a/b"], &["a/c/b"]),
    ("a?b", &["a☺b"], &["a/b", "ab", "a☺☺b"]),
    (".*", &[".a"], &["a", "a/.b"]),
    ("a.c", &["a.c"], &["abc"]),
    ("a.|)$(}+{b^c", &["a.|)$(}+{b^c"], &["a"]),
    // Classes and backslashes.
    ("a[b-d]e", &["ace"], &["ae", "aae", "a/e"]),
    ("a[^b-d]e", &["aze", "a☺e"], &["ace"]),
    ("[a-ζ]x", &["αx"], &["Ax"]),
    ("[\\]a]", &["]", "a"], &["b"]),
    ("[x\\-]", &["x", "-"], &["z"]),
    ("[.&&~~]", &[".", "&", "~"], &["a"]),
    ("a\\*b", &["a*b"], &["axb", "a\\*b"]),
    ("\\!a", &["!a"], &["a"]),
];

#[test]
fn it_is_read_as_docker_reads_it() {
    for (text, out, kept) in CASES {
        let mut ignore = Dockerignore::read(text).unwrap();
        for path in *out {
            assert!(ignore.excludes(path), "{text:?} leaves {path:?} out");
        }
        for path in *kept {
            assert!(!ignore.excludes(path), "{text:?} keeps {path:?}");
        }
    }
}

#[test]
fn what_is_no_pattern_is_refused_by_line() {
    for bad in ["[", "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[^", "[^bc", "a[", "\\", "!", "! "] {
        let error = Dockerignore::read(&format!("# first\n{bad}")).unwrap_err();
        assert!(error.starts_with("line 2: "), "{error}");
    }
}

proptest! {
    /// What is remembered of the folders above changes no answer.
    #[test]
    fn the_order_of_questions_does_not_matter(
        lines in "((!?)(\\*\\*/|a|b|\\*|/|\\?){1,4}\n){0,5}",
        mut paths in proptest::collection::vec("[ab]{1,2}(/[ab]{1,2}){0,3}", 1..20),
    ) {
        if let Ok(mut ignore) = Dockerignore::read(&lines) {
            let one_by_one: Vec<bool> = paths.iter().map(|path| Dockerignore::read(&lines).unwrap().excludes(path)).collect();
            let in_a_row: Vec<bool> = paths.iter().map(|path| ignore.excludes(path)).collect();
            prop_assert_eq!(&one_by_one, &in_a_row);
            paths.reverse();
            let backwards: Vec<bool> = paths.iter().map(|path| ignore.excludes(path)).rev().collect();
            prop_assert_eq!(one_by_one, backwards);
        }
    }
}
