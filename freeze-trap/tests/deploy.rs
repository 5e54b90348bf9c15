//! Aim: the files in `deploy/` are right: options exist, capabilities are the same everywhere, what is mounted from the
//! node is read only, systemd takes the unit.
//!
//! Method: the files are parsed, and what they say is shown to the command line, to `freeze-trap check`, to
//! `systemd-analyze`, to `kubernetes-validate`, and to each other.

mod another_user;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use clap::Args;
use freeze_trap::watch::options::Options;
use test_support::skip;
use yaml_rust2::{Yaml, YamlLoader};

/// What the trap takes, as the kernel names it.
const CAPABILITIES: [&str; 5] = ["CAP_BPF", "CAP_PERFMON", "CAP_SYSLOG", "CAP_SYS_PTRACE", LOCKING];
/// The one that a unit need not have: it has no limit of locked memory.
const LOCKING: &str = "CAP_IPC_LOCK";

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)).unwrap()
}

/// The command line reads these, the first of which is `watch`.
fn assert_options(arguments: &[&str]) {
    assert_eq!(arguments.first(), Some(&"watch"));
    let command = Options::augment_args(clap::Command::new("watch"));
    command.try_get_matches_from(arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
}

fn manifest() -> Yaml {
    let mut documents = YamlLoader::load_from_str(&read("freeze-trap.daemonset.yaml")).unwrap();
    assert_eq!(documents.len(), 1);
    documents.remove(0)
}

fn texts(list: &Yaml) -> Vec<&str> {
    list.as_vec().expect("a list").iter().map(|one| one.as_str().expect("a text")).collect()
}

#[test]
fn the_manifests_options_and_rights_are_what_the_trap_takes() {
    let manifest = manifest();
    assert_eq!((manifest["apiVersion"].as_str(), manifest["kind"].as_str()), (Some("apps/v1"), Some("DaemonSet")));
    let template = &manifest["spec"]["template"];
    let labels = |yaml: &Yaml| yaml["app.kubernetes.io/name"].as_str().map(str::to_owned);
    let selected = labels(&manifest["spec"]["selector"]["matchLabels"]);
    assert!(selected.is_some() && selected == labels(&template["metadata"]["labels"]));
    let pod = &template["spec"];
    assert_eq!(pod["hostPID"].as_bool(), Some(true));
    assert_eq!(pod["securityContext"]["runAsNonRoot"].as_bool(), Some(true));
    let container = &pod["containers"][0];
    assert_options(&texts(&container["args"]));
    let capabilities = &container["securityContext"]["capabilities"];
    let added: Vec<String> = texts(&capabilities["add"]).iter().map(|name| format!("CAP_{name}")).collect();
    assert_eq!((texts(&capabilities["drop"]), added), (vec!["ALL"], CAPABILITIES.map(String::from).to_vec()));
    assert!(container["resources"]["limits"]["memory"].as_str().is_some());
    let port = container["ports"][0]["containerPort"].as_i64().unwrap().to_string();
    assert!(texts(&container["args"]).contains(&format!("--metrics=0.0.0.0:{port}").as_str()));
    assert_eq!(template["metadata"]["annotations"]["prometheus.io/port"].as_str(), Some(port.as_str()));
}

#[test]
fn what_the_manifest_mounts_from_the_node_is_read_only() {
    let manifest = manifest();
    let pod = &manifest["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let mounts = container["volumeMounts"].as_vec().unwrap();
    for volume in pod["volumes"].as_vec().unwrap() {
        let mount = mounts.iter().find(|mount| mount["name"] == volume["name"]).expect("it is mounted");
        let is_of_the_node = !volume["hostPath"].is_badvalue();
        assert_eq!(is_of_the_node, mount["readOnly"].as_bool() == Some(true), "{volume:?}");
    }
    assert_eq!(mounts.len(), pod["volumes"].as_vec().unwrap().len());
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"].as_bool(), Some(true));
}

#[test]
fn the_images_file_has_the_capabilities_of_the_manifest() {
    // Permitted, and not in force: the kernel would not start the trap where one is missing.
    let wanted = format!("setcap {}=p ", CAPABILITIES.join(",").to_lowercase());
    assert!(read("Dockerfile").contains(&wanted), "{wanted}");
}

/// Prints what `check` would have; for a run without rights.
#[test]
fn what_is_lacking_is_listed() {
    let facts = freeze_trap::source::permits::permits();
    let lacking = facts.iter().find(|fact| fact.name == "capabilities").and_then(|fact| fact.help.clone());
    println!("\nlacking: {}", lacking.unwrap_or_default());
}

#[test]
fn the_manifest_grants_what_check_asks_for() {
    let Some(text) = another_user::run("what_is_lacking_is_listed", "", None) else { return };
    let listed = text.lines().find_map(|line| line.strip_prefix("lacking: ")).expect("a line of it");
    let is_other = |sign: char| !sign.is_ascii_uppercase() && sign != '_';
    let names: BTreeSet<&str> = listed.split(is_other).filter(|word| word.starts_with("CAP_")).collect();
    assert_eq!(names, BTreeSet::from(CAPABILITIES), "{text}");
}

/// What the unit says of a key.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

#[test]
fn the_units_options_and_rights_are_what_the_trap_takes() {
    let unit = read("freeze-trap@.service");
    let start = values(&unit, "ExecStart");
    let words: Vec<&str> = start[0].split(' ').collect();
    assert_eq!((start.len(), words[0], words.last()), (1, "/usr/local/bin/freeze-trap", Some(&"$OPTIONS")));
    let arguments: Vec<&str> =
        words[1..words.len() - 1].iter().map(|word| word.trim_matches(['$', '{', '}'])).collect();
    assert_options(&arguments);
    let needed = CAPABILITIES.iter().filter(|name| **name != LOCKING).copied().collect::<Vec<_>>().join(" ");
    for key in ["AmbientCapabilities", "CapabilityBoundingSet"] {
        assert_eq!(values(&unit, key), [needed.as_str()]);
    }
    assert_eq!(values(&unit, "LimitMEMLOCK"), ["infinity"]);
    // The examples in its comment, too.
    let examples: Vec<&str> =
        unit.lines().filter_map(|line| line.split_once("OPTIONS=").map(|(_, options)| options)).collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        assert_options(&[vec!["watch", "--unit", "a.service"], example.split(' ').collect()].concat());
    }
}

#[test]
fn a_service_can_reach_a_socket_in_the_units_directory() {
    let unit = read("freeze-trap@.service");
    // The directory of captures is below /var/lib/private, which only root and the trap's user may enter.
    assert_eq!((values(&unit, "DynamicUser"), values(&unit, "StateDirectoryMode")), (vec!["yes"], vec!["0700"]));
    assert_eq!(values(&unit, "RuntimeDirectory"), ["freeze-trap/%i"]);
    assert_eq!(values(&unit, "RuntimeDirectoryMode"), ["0755"]);
    let sockets: Vec<&str> = unit.split("heartbeat-socket:").skip(1).collect();
    assert!(!sockets.is_empty() && sockets.iter().all(|path| path.starts_with("/run/freeze-trap/INSTANCE/")));
}

#[test]
fn captures_of_the_unit_are_not_in_a_directory_that_a_trap_of_root_makes() {
    let unit = read("freeze-trap@.service");
    let of_root = Path::new("/var/lib/freeze-trap");
    if nix::unistd::geteuid().is_root() {
        assert_eq!(freeze_trap::watch::options::usual_directory().unwrap(), of_root);
    }
    // That one is for root alone, so that the unit's user could not get through it.
    let own = Path::new("/var/lib").join(values(&unit, "StateDirectory")[0]);
    assert!(!own.starts_with(of_root) && own.ends_with("%i"), "{}", own.display());
    assert!(unit.contains("--directory ${STATE_DIRECTORY}"));
}

#[test]
fn the_manifests_captures_go_to_a_directory_of_the_traps_own() {
    let manifest = manifest();
    let container = &manifest["spec"]["template"]["spec"]["containers"][0];
    let mounts = container["volumeMounts"].as_vec().unwrap();
    let volume = mounts.iter().find(|mount| mount["readOnly"].is_badvalue()).unwrap()["mountPath"].as_str().unwrap();
    let arguments = texts(&container["args"]);
    let directory = arguments.iter().find_map(|argument| argument.strip_prefix("--directory=")).unwrap();
    // The volume itself may be written to by its group.
    assert!(Path::new(directory).starts_with(volume) && directory != volume, "{directory} in {volume}");
}

/// By the schemas that come with it; unknown fields are refused, as by `kubectl apply`.
#[test]
fn kubernetes_takes_the_manifest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("freeze-trap.yaml");
    let validate = |manifest: &str| {
        fs::write(&path, manifest).unwrap();
        Command::new("kubernetes-validate").arg("--strict").arg(&path).output()
    };
    let manifest = read("freeze-trap.daemonset.yaml");
    match validate(&manifest) {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) => {
            skip(format_args!("kubernetes-validate (of PyPI) cannot be run: {error}"));
            return;
        }
    }
    let wrong = validate(&manifest.replace("readOnlyRootFilesystem", "readOnlyFilesystem")).unwrap();
    assert!(!wrong.status.success(), "{wrong:?}");
}

#[test]
fn systemd_takes_the_unit() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("freeze-trap");
    fs::write(&program, "").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("freeze-trap@a.service");
    let verify = |unit: &str| {
        fs::write(&path, unit.replace("/usr/local/bin/freeze-trap", program.to_str().unwrap())).unwrap();
        Command::new("systemd-analyze").args(["verify", "--man=no", "--recursive-errors=no"]).arg(&path).output()
    };
    let unit = read("freeze-trap@.service");
    let output = match verify(&unit) {
        Ok(output) => output,
        Err(error) => {
            skip(format_args!("systemd-analyze cannot be run: {error}"));
            return;
        }
    };
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && text.is_empty(), "{text}");
    // It would say so if there were something wrong.
    let wrong = verify(&unit.replace("PrivateDevices=yes", "PrivateDevises=yes")).unwrap();
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("PrivateDevises"), "{wrong:?}");
}
