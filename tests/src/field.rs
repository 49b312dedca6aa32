//! A field site: a broker of its own, whose bridge to the centre's broker can be cut.

use std::{path::PathBuf, process::Command};

use demo::{process::Running, stack::Ports};

use crate::{
    cable::{Cable, FarSide},
    sender::Device,
    site::{FIELD_SITE, MOSQUITTO, PARTY, PASSWORD, Site, broker_conf, listens, shipped, write_passwords},
};

/// Dropped in this order: who asks before what carries it.
pub struct Field {
    broker: Option<Running>,
    pub to_centre: Cable,
    pub port: u16,
    directory: PathBuf,
}

impl Field {
    /// The shipped files, with the test's paths and ports, and a line that is found dead within seconds.
    pub fn open(site: &Site, queued_max: u32, devices: &[&Device]) -> Self {
        let directory = site.house.path().join("field");
        std::fs::create_dir_all(&directory).unwrap();
        let ports = Ports::free().unwrap();
        let to_centre = Cable::lay(ports.http, FarSide::Port(site.to_entrance.port));
        write_passwords(&directory.join("passwords"), devices, []);
        std::fs::write(directory.join("acl"), shipped("mosquitto.acl", &[])).unwrap();
        let bridge = [
            ("address", format!("127.0.0.1:{}", to_centre.port)),
            ("remote_username", format!("{PARTY}/{FIELD_SITE}")),
            ("remote_password", PASSWORD.to_owned()),
            ("keepalive_interval", "5".to_owned()),
            ("restart_timeout", "1".to_owned()),
        ];
        let bridge = shipped("mosquitto-bridge.conf", &bridge)
            .replace("suyuan/v1/depot/", &format!("suyuan/v1/{PARTY}/"))
            // The test's network has no certificates.
            .replace("\nbridge_cafile", "\n#bridge_cafile");
        let conf = broker_conf(&directory, ports.mqtt, queued_max) + &bridge;
        std::fs::write(directory.join("conf"), conf).unwrap();
        let mut field = Self { broker: None, to_centre, port: ports.mqtt, directory };
        field.start();
        field
    }

    fn start(&mut self) {
        let mut command = Command::new(MOSQUITTO);
        command.arg("-c").arg(self.directory.join("conf"));
        self.broker = Some(Running::start("field", &mut command, &self.directory.join("log")).unwrap());
        listens(self.port);
    }

    /// Stopped as an operator stops it, and started again.
    pub fn restart(&mut self) {
        if let Some(mut broker) = self.broker.take() {
            broker.stop();
        }
        self.start();
    }
}
