//! What vendors' own clients do with a service of their vendor's shape.

/// OpenStack's extension for Dell: boot once from virtual media by a profile, exports, jobs; settings and firmware by sushy.
pub(crate) const IDRAC: &str = r#"
import sushy, sys
url, ca = sys.argv[1:3]
root = sushy.Sushy(url, auth=sushy.auth.SessionAuth(username="admin", password="S3cret"), verify=ca)
system = root.get_system("/redfish/v1/Systems/System.Embedded.1")
[manager] = root.get_manager_collection().get_members()
dell = manager.get_oem_extension("Dell")
cd = [d for d in manager.virtual_media.get_members() if sushy.VirtualMediaType.CD in d.media_types][0]
cd.insert_media("http://192.0.2.1/a.iso")
answer = dell.set_virtual_boot_device(sushy.VIRTUAL_MEDIA_CD, manager=manager, system=system)
assert answer.json()["TaskState"] == "Completed", answer.json()
assert {v.value for v in dell.get_allowed_export_target_values()} == {"ALL", "IDRAC", "BIOS"}
bios = system.bios
assert bios.attributes["ProcVirtualization"] == "Disabled", bios.attributes
bios.set_attribute("ProcVirtualization", "Enabled", apply_time=sushy.ApplyTime.ON_RESET)
assert bios.pending_attributes["ProcVirtualization"] == "Enabled"
[job] = dell.job_collection.get_unfinished_jobs()
assert job.startswith("JID_"), job
system.reset_system(sushy.ResetType.ON)
assert dell.job_collection.get_unfinished_jobs() == []
bios.refresh(force=True)
assert bios.attributes["ProcVirtualization"] == "Enabled", bios.attributes
assert bios.attributes["BootMode"] == "Uefi" and system.boot.mode == sushy.BootSourceOverrideMode.UEFI
bios.set_attribute("BootMode", "Bios", apply_time=sushy.ApplyTime.ON_RESET)
system.refresh(force=True)
assert system.boot.mode == sushy.BootSourceOverrideMode.UEFI, "before its next start"
system.reset_system(sushy.ResetType.FORCE_RESTART)
system.refresh(force=True)
assert system.boot.mode == sushy.BootSourceOverrideMode.LEGACY, system.boot.mode
service = root.get_update_service()
monitor = service.simple_update("http://192.0.2.1/NIC-1.3.bin")
while monitor.check_is_processing:
    pass
versions = {f.identity: f.version for f in service.firmware_inventory.get_members()}
assert versions["NIC"] == "1.3", versions
from sushy_oem_idrac.resources.manager import constants as dell_constants
profile = dell._export_system_configuration(target=dell_constants.ExportTarget.BIOS).json()
[component] = profile["SystemConfiguration"]["Components"]
assert component["FQDD"] == "BIOS.Setup.1-1", component
settings = {a["Name"]: a["Value"] for a in component["Attributes"]}
assert settings["ProcVirtualization"] == "Enabled", settings
import json
buffer = json.dumps(profile).replace('"Enabled"', '"Disabled"')
monitor = dell.import_system_configuration(buffer)
while monitor.check_is_processing:
    pass
system.reset_system(sushy.ResetType.FORCE_RESTART)
bios.refresh(force=True)
assert bios.attributes["ProcVirtualization"] == "Disabled", bios.attributes
print("all of it")
"#;

/// HPE's own library, as OpenStack's driver for iLO uses it.
pub(crate) const ILO: &str = r#"
import http.server, sys, threading
from proliantutils.redfish import redfish
url, ca = sys.argv[1:3]
# The library looks for the image itself before it tells the BMC of it.
class Image(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()
images = http.server.HTTPServer(("127.0.0.1", 0), Image)
threading.Thread(target=images.serve_forever, daemon=True).start()
iso = "http://127.0.0.1:%d/a.iso" % images.server_port
ilo = redfish.RedfishOperations(url.removeprefix("https://"), "admin", "S3cret", cacert=ca)
assert ilo.get_product_name() == "M1", ilo.get_product_name()
# By HpeServerBootSettings: the first of its order is a disk.
order = ilo._get_sushy_system("1").bios_settings.boot_settings
import sushy
assert order.get_persistent_boot_device() == sushy.BOOT_SOURCE_TARGET_HDD, order.get_persistent_boot_device()
assert ilo.get_host_power_status() == "OFF"
assert ilo.get_host_post_state() == "FinishedPost", ilo.get_host_post_state()
ilo.insert_virtual_media(iso, "CDROM")
ilo.set_vm_status("CDROM", boot_option="BOOT_ONCE")
ilo.set_host_power("ON")
assert ilo.get_host_power_status() == "ON"
ilo.eject_virtual_media("CDROM")
ilo.reset_server()
assert (ilo.get_current_boot_mode(), ilo.get_pending_boot_mode()) == ("UEFI", "UEFI")
ilo.set_pending_boot_mode("LEGACY")
assert (ilo.get_current_boot_mode(), ilo.get_pending_boot_mode()) == ("UEFI", "LEGACY")
ilo.reset_server()
assert (ilo.get_current_boot_mode(), ilo.get_pending_boot_mode()) == ("LEGACY", "LEGACY")
print("all of it")
"#;
