/**
 * The file of a Unix socket, which belongs to one listener: it is put into its place in one step, and removed only by the
 * listener whose it still is.
 *
 * libuv removes the file of a listener by its name when it closes, whatever is there by then. So a listener binds a name
 * that only it has, which then becomes the name that was asked for.
 */
import * as Crypto from "node:crypto"
import * as Fs from "node:fs/promises"
import * as Net from "node:net"
import * as Path from "node:path"
import { longestUnixPath } from "./address.ts"

/** Whose a socket file is; what is left out stays as it is. */
export interface Owner {
  readonly uid?: number | undefined
  readonly gid?: number | undefined
}

/** We may not give a file away. */
export class NotOurs extends Error {}

const give = async (path: string, { gid = -1, uid = -1 }: Owner): Promise<void> => {
  try {
    await Fs.chown(path, uid, gid)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "EPERM") throw cause
    const to = [uid === -1 ? [] : `the user ${uid}`, gid === -1 ? [] : `the group ${gid}`].flat().join(" and ")
    const groups = [...new Set([process.getgid?.(), ...process.getgroups?.() ?? []])].join(", ")
    throw new NotOurs(
      `this process may not give the socket file to ${to}; only root may give it to another user, and others to a group ` +
        `of their own, which are ${groups}`,
      { cause }
    )
  }
}

export const exists = (path: string): Promise<boolean> => Fs.access(path).then(() => true, () => false)

/** A name in the same folder, for as long as the socket is not in its place. */
export const nameBeside = (path: string): string => {
  const folder = Path.dirname(path)
  const room = longestUnixPath - Buffer.byteLength(Path.join(folder, "x")) + 1
  const length = Math.max(1, Math.min(room, 12))
  let name: string
  // where there is room for one character it may be the very name
  do {
    name = `.${Crypto.randomBytes(8).toString("hex")}`.slice(-length)
  } while (name === Path.basename(path))
  return Path.join(folder, name)
}

/** Which file it is, whatever its name. */
const identityOf = async (path: string): Promise<string | undefined> => {
  const stat = await Fs.lstat(path, { bigint: true }).catch(() => undefined)
  return stat === undefined ? undefined : `${stat.dev} ${stat.ino}`
}

const inUse = "another process is listening on this socket file"

/** Says what is in the way of replacing a file: a listener that answers, or a file that is no socket. */
const obstacle = async (path: string, mayAnswer: boolean): Promise<string | undefined> => {
  const before = await Fs.lstat(path, { bigint: true }).catch(() => undefined)
  if (before === undefined) return undefined
  // connecting to a plain file is refused as well: never replace one
  if (!before.isSocket()) return "there is a file of this name, and it is no socket; remove it or choose another path"
  if (mayAnswer) return undefined
  const code = await new Promise<string>((resolve) => {
    const probe = Net.createConnection({ path })
    probe.once("connect", () => {
      probe.destroy()
      resolve("")
    })
    probe.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
  })
  if (code === "") return inUse
  if (code === "ENOENT") return undefined
  if (code !== "ECONNREFUSED") return `the socket file exists and cannot be checked (${code})`
  const after = await identityOf(path)
  return after === undefined || after === `${before.dev} ${before.ino}`
    ? undefined
    : "another process has just begun to listen on this socket file"
}

/** A socket file in its place. */
export interface Placed {
  /** Removes it, unless another listener has its place by now. */
  readonly remove: () => Promise<void>
}

/**
 * Gives the file of a socket that listens its name, or says what is in the way. A file without a listener is replaced; one
 * with a listener only where that is wanted (`takeOver`).
 */
export const place = async (
  from: string,
  path: string,
  options: { readonly mode: number | undefined; readonly owner: Owner | undefined; readonly takeOver: boolean }
): Promise<Placed | string> => {
  if (options.owner !== undefined) await give(from, options.owner)
  if (options.mode !== undefined) await Fs.chmod(from, options.mode)
  const ours = await identityOf(from)
  // a second name, which is only given where there is no file yet
  const isNew = await Fs.link(from, path).then(() => true, () => false)
  if (isNew) {
    await Fs.unlink(from)
  } else {
    const wrong = await obstacle(path, options.takeOver)
    if (wrong !== undefined) return wrong
    await Fs.rename(from, path)
  }
  return {
    remove: async () => {
      if (ours !== undefined && await identityOf(path) === ours) await Fs.unlink(path).catch(() => {})
    }
  }
}
