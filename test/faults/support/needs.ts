/** What a part needs of the machine, and how to say that it is not there. */
import * as ChildProcess from "node:child_process"
import * as Fs from "node:fs"

/** A thing a machine may lack. */
export interface Need {
  readonly name: string
  readonly has: () => boolean
}

const works = (command: string, ...args: ReadonlyArray<string>): boolean =>
  ChildProcess.spawnSync(command, args, { stdio: "ignore" }).status === 0

const once = (name: string, look: () => boolean): Need => {
  let found: boolean | undefined
  return { name, has: () => found ??= look() }
}

const probe = `holdfast-${process.pid}-probe`

const inNamespace = (...args: ReadonlyArray<string>): boolean => {
  if (!works("ip", "netns", "add", probe)) return false
  const worked = args.length === 0 || works("ip", "netns", "exec", probe, ...args)
  works("ip", "netns", "del", probe)
  return worked
}

export const namespaces = once("network namespaces (root on Linux, ip of iproute2)", () => inNamespace())

export const filter = once(
  "packet filters (nft of nftables)",
  () => inNamespace("nft", "add", "table", "inet", "probe")
)

export const translation = once(
  "address translation (nft, with connection tracking in the kernel)",
  () =>
    inNamespace(
      "nft",
      "add table ip n; add chain ip n c { type nat hook postrouting priority 100; }; add rule ip n c masquerade"
    )
)

export const killing = once("ss of iproute2", () => works("ss", "-V"))

export const processes = once("/proc (Linux)", () => Fs.existsSync("/proc/self/stat"))

export const shellLimits = once("bash, for `ulimit -n`", () => works("bash", "-c", "ulimit -n 64"))

export const certificates = once("openssl", () => works("openssl", "version"))
