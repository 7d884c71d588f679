//! nginx, which serves the files of a folder as fast as it can: `sendfile`, a worker for each core, no log.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::site::free_port;

const PROGRAMS: [&str; 2] = ["nginx", "/usr/sbin/nginx"];

/// A server of our own. Ends when dropped.
pub struct Nginx {
    program: &'static str,
    folder: PathBuf,
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// Which it is.
    pub version: String,
}

impl Nginx {
    /// Serves `root`; `None`: there is no nginx on this machine.
    pub fn start(folder: &Path, root: &Path) -> Result<Option<Self>> {
        let version = |program: &&str| {
            let output = Command::new(program).arg("-v").output().ok()?;
            Some(String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let Some((program, said)) = PROGRAMS.into_iter().find_map(|program| Some((program, version(&program)?))) else {
            return Ok(None);
        };
        let version = said.trim().rsplit('/').next().unwrap_or_default().to_owned();
        std::fs::create_dir_all(folder)?;
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        std::fs::write(folder.join("nginx.conf"), configuration(folder, root, address))?;
        let child = told(program, folder).arg("-g").arg("daemon off;").spawn().context("starting nginx")?;
        let mut nginx = Self { program, folder: folder.to_owned(), child, address, version };
        let began = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            if let Some(status) = nginx.child.try_wait()? {
                bail!("nginx: {status}\n{}", std::fs::read_to_string(folder.join("error.log")).unwrap_or_default());
            }
            if began.elapsed() > Duration::from_secs(10) {
                bail!("nginx doesn't answer");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Some(nginx))
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with it, which they wouldn't if it were killed.
        let stopped = told(self.program, &self.folder).args(["-s", "stop"]).status();
        if !stopped.is_ok_and(|status| status.success()) {
            eprintln!("nginx couldn't be told to stop");
        }
        // Either it has ended or nothing more can be done.
        let _ = self.child.wait();
    }
}

fn told(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("-p").arg(folder).arg("-c").arg("nginx.conf").arg("-e").arg(folder.join("error.log"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn configuration(folder: &Path, root: &Path, address: SocketAddr) -> String {
    // Started by root, workers would be somebody who may not read the folder.
    let is_root = own_id() == Some(0);
    let user = if is_root { "user root;\n" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {};\n", folder.join(name).display()))
        .concat();
    format!(
        "{user}worker_processes auto;\npid {0}/nginx.pid;\nevents {{ worker_connections 4096; }}\n\
         http {{\n{temporary}access_log off;\nsendfile on;\ntcp_nopush on;\nkeepalive_requests 1000000;\n\
         default_type application/json;\nserver {{ listen {address}; root {1}; }}\n}}\n",
        folder.display(),
        root.display()
    )
}

fn own_id() -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    Some(std::fs::metadata("/proc/self").ok()?.uid())
}
