//! How many workers: the CPU limit of the control group, never the machine's cores, which a pod does not own.

use std::fs;

const WITHOUT_LIMIT: usize = 2;
/// As many as `workers` may say.
const MOST: f64 = 256.0;

/// The CPU limit rounded up; without a limit 2.
pub(super) fn workers() -> usize {
    workers_of(|path| fs::read_to_string(path).ok())
}

/// The same by what these files say.
fn workers_of(read: impl Fn(&str) -> Option<String>) -> usize {
    limit(read).map_or(WITHOUT_LIMIT, |cpus| cpus.ceil().clamp(1.0, MOST) as usize)
}

/// The least of the limits of our control group and of those above it, in CPUs.
fn limit(read: impl Fn(&str) -> Option<String>) -> Option<f64> {
    let groups = read("/proc/self/cgroup").unwrap_or_default();
    let of_group = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        match controllers {
            "" => least(path, |at| quota_v2(&read(&format!("/sys/fs/cgroup{at}/cpu.max"))?)),
            _ if controllers.split(',').any(|name| name == "cpu") => least(path, |at| {
                let root = format!("/sys/fs/cgroup/cpu{at}");
                quota_v1(
                    &read(&format!("{root}/cpu.cfs_quota_us"))?,
                    &read(&format!("{root}/cpu.cfs_period_us"))?,
                )
            }),
            _ => None,
        }
    });
    of_group.reduce(f64::min)
}

/// The least quota of a group and of those above it. Within a container the path may be the host's, and then only
/// the root is there.
fn least(path: &str, quota: impl Fn(&str) -> Option<f64>) -> Option<f64> {
    let path = path.trim_end_matches('/');
    let above = std::iter::successors(Some(path), |at| at.rfind('/').map(|end| &at[..end]));
    above.filter_map(quota).reduce(f64::min)
}

/// `cpu.max`: quota and period in microseconds, or `max`.
fn quota_v2(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    quota_v1(quota, period)
}

/// A quota below 1 is no limit.
fn quota_v1(quota: &str, period: &str) -> Option<f64> {
    let quota: f64 = quota.trim().parse().ok().filter(|quota| *quota > 0.0)?;
    let period: f64 = period.trim().parse().ok().filter(|period| *period > 0.0)?;
    Some(quota / period)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit_of(files: &[(&str, &str)]) -> Option<f64> {
        limit(among(files))
    }

    fn among(files: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        |path| files.iter().find(|(name, _)| *name == path).map(|(_, text)| (*text).to_owned())
    }

    #[test]
    fn workers_are_the_limit_rounded_up() {
        let with = |max: &'static str| {
            let files = [("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/cpu.max", max)];
            workers_of(among(&files))
        };
        for (max, workers) in [
            ("1000 100000", 1),
            ("100000 100000", 1),
            ("100001 100000", 2),
            ("150000 100000", 2),
            ("300000 100000", 3),
            ("99900000 100000", 256),
            ("max 100000", WITHOUT_LIMIT),
            ("0 100000", WITHOUT_LIMIT),
            ("nonsense", WITHOUT_LIMIT),
        ] {
            assert_eq!(with(max), workers, "{max}");
        }
        assert_eq!(workers_of(|_| None), WITHOUT_LIMIT);
    }

    #[test]
    fn version_2_takes_the_least_of_the_path() {
        let own = ("/proc/self/cgroup", "0::/kubepods/pod1/app\n");
        assert_eq!(limit_of(&[own, ("/sys/fs/cgroup/kubepods/pod1/app/cpu.max", "max 100000\n")]), None);
        let files = [
            own,
            ("/sys/fs/cgroup/kubepods/pod1/app/cpu.max", "400000 100000\n"),
            ("/sys/fs/cgroup/kubepods/pod1/cpu.max", "150000 100000\n"),
        ];
        assert_eq!(limit_of(&files), Some(1.5));
        assert_eq!(
            limit_of(&[("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/cpu.max", "50000 100000")]),
            Some(0.5)
        );
    }

    #[test]
    fn version_1_is_understood_and_minus_one_is_no_limit() {
        let own = ("/proc/self/cgroup", "4:cpu,cpuacct:/docker/x\n1:name=systemd:/\n");
        let period = ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
        assert_eq!(limit_of(&[own, period, ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")]), None);
        assert_eq!(limit_of(&[own, period, ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "300000\n")]), Some(3.0));
        assert_eq!(limit_of(&[]), None);
    }
}
