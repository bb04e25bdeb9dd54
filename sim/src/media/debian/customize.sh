#!/bin/sh
# Run by mmdebstrap as a customize hook: $1 is the root directory of the new system.
# Everything here makes the guest small, quick under emulation, or quiet.
set -eu
root="$1"

cat > "$root/etc/fstab" <<'END'
LABEL=root / ext4 defaults,noatime 0 1
END
echo debian > "$root/etc/hostname"
printf '127.0.0.1 localhost\n::1 localhost\n' > "$root/etc/hosts"
: > "$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id"

# cloud-init: the real one, told where to look, so that it does not probe a dozen clouds.
mkdir -p "$root/etc/cloud/cloud.cfg.d"
cat > "$root/etc/cloud/cloud.cfg.d/90-farrier.cfg" <<'END'
datasource_list: [NoCloud, None]
datasource:
  NoCloud:
    fs_label: CIDATA
ssh_genkeytypes: [ed25519]
ssh_deletekeys: true
disable_root: false
manage_etc_hosts: false
preserve_hostname: false
system_info:
  distro: debian
  network:
    renderers: [networkd]
  default_user:
    name: debian
    lock_passwd: true
    gecos: Debian
    groups: [adm]
    shell: /bin/bash
# Each module left out saves a Python import and a semaphore file under emulation.
cloud_init_modules:
  - seed_random
  - bootcmd
  - write_files
  - set_hostname
  - update_hostname
  - users_groups
  - ssh
cloud_config_modules:
  - set_passwords
  - runcmd
cloud_final_modules:
  - scripts_user
  - ssh_authkey_fingerprints
  - phone_home
  - final_message
END
# The policy lets ds-identify trust the list above without looking for platforms.
echo 'policy: search,found=first,maybe=all,notfound=disabled' > "$root/etc/cloud/ds-identify.cfg"

# Network: systemd-networkd, configured by cloud-init. Its own wait-online holds the boot for 12 s
# until no IPv6 router has answered; an IPv4 address is all that cloud-init needs.
mkdir -p "$root/etc/systemd/system/systemd-networkd-wait-online.service.d"
cat > "$root/usr/local/sbin/wait-address" <<'END'
#!/bin/sh
tries=0
until [ -n "$(ip -4 -o address show scope global)" ] || [ $tries -ge 120 ]; do
    tries=$((tries + 1))
    sleep 0.5
done
END
chmod 755 "$root/usr/local/sbin/wait-address"
cat > "$root/etc/systemd/system/systemd-networkd-wait-online.service.d/any.conf" <<'END'
[Service]
ExecStart=
ExecStart=/usr/local/sbin/wait-address
END
chroot "$root" systemctl enable systemd-networkd.service >/dev/null 2>&1

# A root file system on iSCSI outlives its target's restarts: iscsid logs in again to the session that the initramfs
# began. Nothing may log it out.
chroot "$root" systemctl enable iscsid.service >/dev/null 2>&1
chroot "$root" systemctl disable open-iscsi.service >/dev/null 2>&1 || true
mkdir -p "$root/etc/systemd/system/iscsid.service.d"
printf '[Unit]\nConditionPathExists=/sys/firmware/ibft/initiator\n' > "$root/etc/systemd/system/iscsid.service.d/ibft.conf"

# Console and marker.
chroot "$root" systemctl enable serial-getty@ttyS0.service >/dev/null 2>&1
chroot "$root" systemctl disable getty@tty1.service >/dev/null 2>&1 || true
cat > "$root/etc/systemd/system/farrier-marker.service" <<'END'
[Unit]
Description=Says on the console that ssh is up
After=ssh.service
Wants=ssh.service
[Service]
Type=oneshot
StandardOutput=tty
TTYPath=/dev/ttyS0
ExecStart=/bin/sh -c 'read up rest < /proc/uptime; echo "FARRIER-DEBIAN-SSHD uptime=$up"'
[Install]
WantedBy=multi-user.target
END
chroot "$root" systemctl enable farrier-marker.service >/dev/null 2>&1

# What only costs time in a machine that lives for minutes.
for unit in apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer dpkg-db-backup.timer logrotate.timer man-db.timer systemd-random-seed.service \
    systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-pstore.service \
    systemd-journal-flush.service systemd-binfmt.service systemd-timesyncd.service \
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount dev-hugepages.mount \
    dev-mqueue.mount kmod-static-nodes.service modprobe@configfs.service modprobe@drm.service \
    modprobe@efi_pstore.service modprobe@fuse.service modprobe@dm_mod.service modprobe@loop.service \
    cloud-init-hotplugd.socket; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
mkdir -p "$root/etc/systemd/journald.conf.d" "$root/etc/systemd/system.conf.d"
printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=8M\n' > "$root/etc/systemd/journald.conf.d/lab.conf"
# Emulated machines are slow: no job may be given up because of that.
printf '[Manager]\nDefaultTimeoutStartSec=300s\n' > "$root/etc/systemd/system.conf.d/lab.conf"
printf 'UseDNS no\nPermitRootLogin prohibit-password\n' > "$root/etc/ssh/sshd_config.d/lab.conf"
# pam_systemd and motd cost a second per login under emulation.
sed -i '/pam_motd/d;/pam_mail/d' "$root/etc/pam.d/sshd"

# Host keys are made by cloud-init at first boot, never shipped.
rm -f "$root"/etc/ssh/ssh_host_*

# Python byte code is compiled here, not at the first boot. Unchecked hashes keep it reproducible.
chroot "$root" find /usr/lib/python3 /usr/lib/python3.11 -name __pycache__ -prune -exec rm -rf {} +
chroot "$root" python3 -m compileall -q -j 2 --invalidation-mode unchecked-hash \
    /usr/lib/python3/dist-packages /usr/lib/python3.11 >/dev/null || true

rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/*.log "$root"/var/log/apt \
    "$root"/var/cache/ldconfig/aux-cache "$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old \
    "$root"/usr/share/doc "$root"/usr/share/man "$root"/usr/share/locale "$root"/usr/share/info \
    "$root"/usr/share/i18n "$root"/usr/lib/python3*/test "$root"/tmp/* "$root"/run/*
mkdir -p "$root/boot"
