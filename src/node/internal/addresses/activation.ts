/** Sockets that systemd opened and passed to this process (`LISTEN_FDS`, sd_listen_fds(3)). */
import * as Result from "effect/Result"

/** The first one has this number; the others follow. */
const first = 3

interface Passed {
  readonly fd: number
  readonly name: string
}

/** What there is, or why there is none. */
type Inherited = Result.Result<ReadonlyArray<Passed>, string>

const howTo = "start it by its socket unit (systemctl start NAME.socket), or by systemd-socket-activate"

/** Reads the variables for a process. */
export const inheritedBy = (pid: number, variables: NodeJS.ProcessEnv): Inherited => {
  const { LISTEN_FDNAMES: names, LISTEN_FDS: count, LISTEN_PID: meant } = variables
  if (count === undefined || meant === undefined) {
    return Result.fail(`systemd has passed no sockets to this process (no LISTEN_FDS): ${howTo}`)
  }
  if (meant !== String(pid)) {
    return Result.fail(
      `the sockets of systemd are for the process ${meant}, and this is ${pid}: let the unit start it itself, and a script ` +
        "that does so end in `exec`"
    )
  }
  if (!/^[1-9]\d{0,3}$/.test(count)) {
    return Result.fail(`systemd has passed no sockets (LISTEN_FDS is ${count}): ${howTo}`)
  }
  const named = names?.split(":") ?? []
  return Result.succeed(
    Array.from({ length: Number(count) }, (_, i) => ({ fd: first + i, name: named[i] || "unknown" }))
  )
}

const listed = (passed: ReadonlyArray<Passed>): string => passed.map(({ fd, name }) => `${fd} (${name})`).join(", ")

const sockets = (count: number): string => count === 1 ? "one socket" : `${count} sockets`

/** Which of them is meant: the only one, or the one with a name. */
export const chosen = (passed: ReadonlyArray<Passed>, name: string | undefined): Result.Result<number, string> => {
  const found = name === undefined ? passed : passed.filter((one) => one.name === name)
  if (found.length === 1) return Result.succeed(found[0]!.fd)
  const choose = "choose one by its name (FileDescriptorName= of the unit) or by its number"
  return Result.fail(
    name === undefined
      ? `systemd has passed ${sockets(passed.length)}, ${listed(passed)}: ${choose}`
      : found.length === 0
      ? `systemd has passed no socket of the name ${name}, and ${listed(passed)}: ${choose}`
      : `systemd has passed ${sockets(found.length)} of the name ${name}, ${listed(found)}: choose one by its number`
  )
}

let inherited: Inherited | undefined
const taken = new Set<number>()

/** Read once: what this process starts later must not take them for its own. */
const ours = (): Inherited => {
  if (inherited !== undefined) return inherited
  inherited = inheritedBy(process.pid, process.env)
  for (const name of ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]) delete process.env[name]
  return inherited
}

/** How an option names a descriptor: by its number, `systemd` for the only one of systemd's, or that and a name. */
export type Descriptor = number | "systemd" | `systemd:${string}`

/** What is wrong with a descriptor, before it is asked for. */
export const wrongDescriptor = (fd: Descriptor): string | undefined =>
  (typeof fd === "number" ? Number.isSafeInteger(fd) && fd >= 0 : /^systemd(?::.+)?$/.test(fd))
    ? undefined
    : `fd is no file descriptor: ${fd}`

/** The number of a descriptor. Those of systemd are given once each. */
export const take = (descriptor: Descriptor): Result.Result<number, string> => {
  if (typeof descriptor === "number") {
    taken.add(descriptor)
    return Result.succeed(descriptor)
  }
  const [, name] = /^systemd(?::(.+))?$/.exec(descriptor) ?? []
  return Result.flatMap(ours(), (passed) =>
    Result.flatMap(chosen(passed, name), (fd) => {
      if (taken.has(fd)) return Result.fail(`another listener has taken the socket ${fd} of systemd already`)
      taken.add(fd)
      return Result.succeed(fd)
    }))
}

/** Those of systemd's that no listener has taken: their clients would wait for ever. */
export const untaken = (): string => {
  const passed = Result.getOrElse(ours(), () => [])
  return listed(passed.filter(({ fd }) => !taken.has(fd)))
}
