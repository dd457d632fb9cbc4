//! Programs that the suites need and a machine may lack. Cargo's and Go's are installed into a cache of the user's, pinned;
//! the system's by apt-get where we are root. Otherwise an error names the very command to type.

mod go;
mod kubernetes;
mod peer;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::process;

/// A program and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Crate {
        version: &'static str,
    },
    Debian {
        package: &'static str,
    },
    Go(go::Program),
    /// The schemas of Kubernetes' objects: no program, but got like one.
    Kubernetes,
    Peer(peer::Peer),
}

pub(crate) const CARGO_DENY: Tool = Tool::from_crate("cargo-deny", "0.20.2");
pub(crate) const CARGO_MACHETE: Tool = Tool::from_crate("cargo-machete", "0.9.2");
pub(crate) const CURL: Tool = Tool::from_debian("curl", "curl");
pub(crate) const FAKETIME: Tool = Tool::from_debian("faketime", "faketime");
pub(crate) const GXX: Tool = Tool::from_debian("g++", "g++");
/// 3.19 is the last that Go 1.24 builds, which Debian has.
pub(crate) const HELM: Tool = Tool {
    program: "helm",
    source: Source::Go(go::Program {
        module: go::Module {
            path: "helm.sh/helm/v3",
            version: "v3.19.5",
            sum: "h1:l8zDGBhPaF2z5pTR5ASku/yZwi0qZrWthWMzvf1ZruE=",
        },
        package: "./cmd/helm",
        version_in: "helm.sh/helm/v3/internal/version.version",
        version_by: &["version", "--short"],
    }),
};
pub(crate) const H2LOAD: Tool = Tool::from_debian("h2load", "nghttp2-client");
pub(crate) const HAPROXY: Tool = Tool::from_debian("haproxy", "haproxy");
pub(crate) const GO: Tool = Tool::from_debian("go", "golang-go");
pub(crate) const IP: Tool = Tool::from_debian("ip", "iproute2");
/// 0.7 is the last that Go 1.24 builds.
pub(crate) const KUBECONFORM: Tool = Tool {
    program: "kubeconform",
    source: Source::Go(go::Program {
        module: go::Module {
            path: "github.com/yannh/kubeconform",
            version: "v0.7.0",
            sum: "h1:ZFfniR8VChrWQxaxTUGnNrxw8RIDkjVBrjdhXSamwjw=",
        },
        package: "./cmd/kubeconform",
        version_in: "main.version",
        version_by: &["-v"],
    }),
};
pub(crate) const KUBERNETES: Tool = Tool { program: "Kubernetes' schemas", source: Source::Kubernetes };
pub(crate) const NFT: Tool = Tool::from_debian("nft", "nftables");
pub(crate) const NGINX: Tool = Tool::from_debian("nginx", "nginx-light");
pub(crate) const OPENSSL: Tool = Tool::from_debian("openssl", "openssl");
pub(crate) const OTLP_RECEIVER: Tool =
    Tool { program: "trama-otlp-receiver", source: Source::Peer(peer::Peer("tests/peers/otlp")) };
pub(crate) const PERF: Tool = Tool::from_debian("perf", "linux-perf");
pub(crate) const PIP: Tool = Tool::from_debian("pip3", "python3-pip");
pub(crate) const PYTHON: Tool = Tool::from_debian("python3", "python3");
pub(crate) const SETPRIV: Tool = Tool::from_debian("setpriv", "util-linux");
pub(crate) const UNSHARE: Tool = Tool::from_debian("unshare", "util-linux");
pub(crate) const VALGRIND: Tool = Tool::from_debian("valgrind", "valgrind");

impl Tool {
    const fn from_crate(program: &'static str, version: &'static str) -> Self {
        Self { program, source: Source::Crate { version } }
    }

    const fn from_debian(program: &'static str, package: &'static str) -> Self {
        Self { program, source: Source::Debian { package } }
    }
}

/// Makes sure that every tool is there, installing what can be installed, with its progress on the terminal.
pub(crate) fn ensure(tools: &[Tool]) -> Result<()> {
    let may_install_packages = may_install(is_root(), &std::env::var_os("PATH").unwrap_or_default());
    provide(tools, &search_path()?, may_install_packages)
}

fn provide(tools: &[Tool], path: &OsString, may_install_packages: bool) -> Result<()> {
    let missing = |tool: &Tool| !is_there(*tool, path);
    let of_debian = |tool: &Tool| match tool.source {
        Source::Debian { package } => Some((tool.program, package)),
        _ => None,
    };
    // First the system's: Go is one of them.
    let packages: Vec<_> = tools.iter().filter(|tool| missing(tool)).filter_map(of_debian).collect();
    match &*packages {
        [] => {}
        packages if may_install_packages => install_packages(packages)?,
        packages => return Err(how_to_install(packages)),
    }
    for tool in tools.iter().filter(|tool| missing(tool)) {
        match &tool.source {
            Source::Debian { .. } => {}
            Source::Crate { version } => install_crate(tool.program, version)?,
            Source::Go(program) => go::install(tool.program, program, &cache()?.join("tools/bin"))?,
            Source::Kubernetes => kubernetes::install()?,
            Source::Peer(peer) => peer.install(tool.program, &cache()?.join("tools/bin"))?,
        }
    }
    Ok(())
}

/// A tool with arguments, by its full path; `ensure` has seen to it that it is there.
pub(crate) fn command(tool: Tool, arguments: &[&str]) -> Result<Command> {
    let program = find(tool.program, &search_path()?).unwrap_or_else(|| tool.program.into());
    let mut command = as_subcommand(tool, &program);
    command.args(arguments);
    Ok(command)
}

/// Completes PATH for a command by the folders in which tools are looked for.
pub(crate) fn with_path(command: &mut Command) -> &mut Command {
    if let Ok(path) = search_path() {
        command.env("PATH", path);
    }
    command
}

fn install_crate(name: &str, version: &str) -> Result<()> {
    let root = cache()?.join("tools");
    eprintln!("installing {name} {version} into {} (once)", root.display());
    let mut command = process::cargo(&["install", "--locked", "--force", "--version", version, "--root"]);
    command.arg(&root).arg(name);
    process::loud(&mut command)
}

fn install_packages(missing: &[(&str, &str)]) -> Result<()> {
    let packages = missing.iter().map(|(_, package)| *package);
    eprintln!("installing {} by apt-get", packages.clone().collect::<Vec<_>>().join(" "));
    apt_get(&["update", "-q"])?;
    let mut arguments = vec!["install", "-y", "-q", "--no-install-recommends"];
    arguments.extend(packages);
    apt_get(&arguments)
}

fn may_install(root: bool, path: &OsString) -> bool {
    root && find("apt-get", path).is_some()
}

fn how_to_install(missing: &[(&str, &str)]) -> Error {
    let (programs, packages): (Vec<&str>, Vec<&str>) = missing.iter().copied().unzip();
    let programs = programs.join(", ");
    let remedy = format!("sudo apt-get install -y --no-install-recommends {}", packages.join(" "));
    Error::Missing { programs, remedy }
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    process::loud(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
}

/// A program of cargo's or Go's counts only in the version that is pinned, one of our own only as its source now is.
fn is_there(tool: Tool, path: &OsString) -> bool {
    let is = |by: &[&str], version: &str| {
        let found = find(tool.program, path);
        found.and_then(|program| reported_version(tool, &program, by)).is_some_and(|text| text == version)
    };
    match &tool.source {
        Source::Debian { .. } => find(tool.program, path).is_some(),
        Source::Crate { version } => is(&["--version"], version),
        Source::Go(program) => is(program.version_by, program.module.version),
        Source::Kubernetes => kubernetes::are_there(),
        Source::Peer(peer) => peer.version().is_ok_and(|version| is(&["-version"], &version)),
    }
}

/// The last word of what it prints: `cargo-deny 0.20.2` and plain `0.9.2` are both in use.
fn reported_version(tool: Tool, program: &Path, by: &[&str]) -> Option<String> {
    let output = as_subcommand(tool, program).args(by).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().last().map(str::to_owned)
}

/// A program of cargo's as cargo would start it: with CARGO set and its own name as the first argument. Not by
/// cargo, which prefers what the user has in ~/.cargo/bin in whatever version. CARGO_PKG_NAME, which we have from
/// `cargo run`, tells cargo-machete that it is no subcommand but under development: its name would be a path to it.
fn as_subcommand(tool: Tool, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("CARGO", process::cargo(&[]).get_program()).env_remove("CARGO_PKG_NAME");
    command.current_dir(process::root());
    command.args(tool.program.strip_prefix("cargo-"));
    command
}

fn search_path() -> Result<OsString> {
    let mut folders = vec![cache()?.join("tools/bin")];
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    // Debian keeps nft and nginx where an ordinary user's PATH does not look; Go's own archive goes to /usr/local.
    folders.extend(["/usr/sbin", "/sbin", "/usr/local/go/bin"].map(PathBuf::from));
    Ok(std::env::join_paths(folders).expect("the folders come from PATH or contain no colon"))
}

/// The folder of the user's for what is installed once.
pub(crate) fn cache() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    base.map(|base| base.join("trama")).ok_or(Error::NoCache)
}

fn find(program: &str, path: &OsString) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Knows its version only as a subcommand of cargo's.
    const FAKE: &str = "#!/bin/sh\n[ $1 = fake ] && [ -z \"$CARGO_PKG_NAME\" ] && echo cargo-fake 1.2.3\n";

    /// A folder with one program in it.
    fn bin(program: &str, script: &str) -> PathBuf {
        let bin = std::env::temp_dir().join(format!("trama-{program}-{}", std::process::id()));
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(bin.join(program), script).unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(bin.join(program), executable).unwrap();
        bin
    }

    #[test]
    fn a_crate_of_another_version_is_not_there() {
        let bin = bin("cargo-fake", FAKE);
        let path = bin.clone().into_os_string();
        assert!(is_there(Tool::from_crate("cargo-fake", "1.2.3"), &path));
        assert!(!is_there(Tool::from_crate("cargo-fake", "1.2.4"), &path));
        assert!(!is_there(Tool::from_crate("cargo-other", "1.2.3"), &path));
        std::fs::remove_dir_all(&bin).unwrap();
    }

    #[test]
    fn a_peer_of_another_source_is_not_there() {
        let peer = peer::Peer("tests/peers/otlp");
        let tool = Tool { program: "fake-peer", source: Source::Peer(peer) };
        for (version, there) in [(peer.version().unwrap(), true), ("0".to_owned(), false)] {
            let bin = bin("fake-peer", &format!("#!/bin/sh\necho {version}\n"));
            assert_eq!(is_there(tool, &bin.clone().into_os_string()), there, "{version}");
            std::fs::remove_dir_all(&bin).unwrap();
        }
    }

    /// With an empty PATH nothing is there, apt-get neither: not even root may install, and is told what to type.
    #[test]
    fn what_is_missing_and_cannot_be_installed_is_an_error_that_says_how() {
        let nowhere = OsString::new();
        assert!(!may_install(true, &nowhere));
        let error = provide(&[NFT, UNSHARE], &nowhere, false).unwrap_err().to_string();
        let remedy = "sudo apt-get install -y --no-install-recommends nftables util-linux";
        assert_eq!(error, format!("these programs are missing: nft, unshare. Install them with: {remedy}"));
    }

    #[test]
    fn programs_of_the_system_are_looked_for_where_debian_keeps_them() {
        let path = search_path().unwrap();
        assert!(std::env::split_paths(&path).any(|folder| folder == Path::new("/usr/sbin")));
    }
}
