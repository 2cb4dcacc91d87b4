//! `sidestage storage`: the file that it makes, what it says of it, and what it refuses.

use std::path::Path;

use tokio::process::Command;

use crate::stage::workshop;
use crate::story::binary;

/// Runs the program as an operator does: code, standard output, errors.
async fn storage(config: &Path, words: &str) -> (i32, String, String) {
    let mut command = Command::new(binary());
    command.arg("--config").arg(config).arg("storage").args(words.split(' '));
    let output = command.output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn an_operator_sets_a_file_aside_looks_at_it_and_removes_it() {
    let (folder, _repository, config) = workshop(&[("README", "a shop\n")], "", "").await;
    let (config, file) = (config.file.unwrap(), folder.path().join("aside.xfs"));
    let at = format!("--path {}", file.display());

    let (code, _, said) = storage(&config, &format!("create --size much {at}")).await;
    assert!(code == 1 && said.starts_with("sidestage: --size: "), "{said}");
    assert!(!file.exists());
    let (code, told, said) = storage(&config, &format!("create --size 1G {at}")).await;
    assert_eq!((code, said.as_str()), (0, ""), "{told}");
    assert_eq!(
        told,
        format!(
            "{file} is ready.\nPut this into [database] of the configuration and start Sidestage again:\nstorage = \"{file}\"\n",
            file = file.display()
        )
    );
    let (code, told, _) = storage(&config, &format!("show --json {at}")).await;
    let shown: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((code, shown["size"].as_u64(), shown["file"].as_str()), (0, Some(1 << 30), file.to_str()), "{told}");
    let (_, told, _) = storage(&config, &format!("show {at}")).await;
    assert_eq!(told, format!("{}: 1024 MB, not mounted\n", file.display()));
    let made = std::fs::metadata(&file).unwrap().modified().unwrap();
    let (code, _, said) = storage(&config, &format!("create --size 2G {at}")).await;
    assert!(code == 1 && said.starts_with("sidestage: ") && said.lines().count() == 1, "{said}");
    assert_eq!(std::fs::metadata(&file).unwrap().modified().unwrap(), made, "what is there stays");

    // One that the configuration names is not removed.
    let text = std::fs::read_to_string(&config).unwrap();
    let named = text.replace("[database]\n", &format!("[database]\nstorage = \"{}\"\n", file.display()));
    std::fs::write(&config, named).unwrap();
    let (code, _, said) = storage(&config, &format!("rm {at}")).await;
    assert!(code == 1 && said.contains("is in use: take `storage` out of [database]"), "{said}");
    assert!(file.exists());
    std::fs::write(&config, text).unwrap();
    let (code, told, _) = storage(&config, &format!("rm {at}")).await;
    assert_eq!((code, told), (0, format!("{} is gone.\n", file.display())));
    assert!(!file.exists());
}
