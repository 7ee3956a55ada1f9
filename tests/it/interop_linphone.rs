//! Linphone on the other end: a softphone that connects two calls of its own (RFC 5589 §7) and knows SHA-256 digests
//! (RFC 8760), neither of which baresip does.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::rig::{Gateway, Program, Rig, free_port, shared};

/// A softphone that takes orders as a person types them. `settings` are lines of its `[sip]` section, and sections.
pub(crate) fn linphone(folder: &Path, settings: &str) -> Program {
    let home = folder.join("linphone");
    fs::create_dir_all(home.join(".local/share/linphone")).unwrap();
    let [udp, tcp, tls] = std::array::from_fn(|_| free_port().port());
    let settings = format!(
        "[rtp]\naudio_rtp_port=15700-15798\n[video]\nenabled=0\ncapture=0\ndisplay=0\nautomatically_initiate=0\n\
         automatically_accept=0\n[sip]\nsip_port={udp}\nsip_tcp_port={tcp}\nsip_tls_port={tls}\nguess_hostname=0\n\
         bind_address=127.0.0.1\ncontact=\"Ada\" <sip:ada@127.0.0.1>\nauto_net_state_mon=0\nmedia_encryption=none\n\
         {settings}"
    );
    fs::write(home.join("settings"), settings).unwrap();
    let mut command = Command::new("stdbuf");
    command.args(["-oL", "linphonec", "-c"]).arg(home.join("settings")).current_dir(&home);
    for name in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
        command.env(name, &home);
    }
    let mut phone = Program::start_obedient(command);
    phone.order("soundcard use files");
    phone.order("ipv6 disable");
    phone.says("ipv6 use disabled", Duration::from_secs(20));
    phone
}

#[test]
fn interop_linphone_proves_its_password_by_sha_256() {
    let _machine = shared();
    let rig = Rig::new(&[]);
    rig.write(
        "trunks/carrier.toml",
        "version = 1\ntitle = \"Telephones\"\n[inbound.login]\nusername = \"ada\"\n\
         password = { file = \"secrets/ada\" }\n",
    );
    rig.write("secrets/ada", "sesame\n");
    // It describes its audio with this machine's own address, whatever its signalling is bound to.
    let text = fs::read_to_string(rig.path().join("sip-config/gateway.toml")).unwrap();
    rig.write("gateway.toml", &text.replace("loopback_only = true\n", ""));
    let mut gateway = Gateway::start(&rig);
    let mut phone = linphone(rig.path(), "[auth_info_0]\nusername=ada\npasswd=sesame\nrealm=sip\n");

    phone.order(&format!("call sip:102@{}", gateway.udp));
    phone.says("Media streams established", Duration::from_secs(20));
    phone.order("terminate");
    phone.says("ended", Duration::from_secs(10));

    assert_eq!(rig.mock.event().json()["data"]["endedBy"], "caller");
    gateway.assert_counted("ringback_guard_judged_total", "reason=\"proved\"", 1.0);
    assert!(!gateway.log().contains("sesame"), "the password is in the log");
    gateway.assert_well();
}
