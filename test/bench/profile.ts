/** Says where the time of a server went: self time by function, from the CPU profiles that V8 wrote. */
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"

interface Profile {
  readonly nodes: ReadonlyArray<{
    readonly id: number
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number }
  }>
  readonly samples: ReadonlyArray<number>
  readonly timeDeltas: ReadonlyArray<number>
}

const place = (url: string, line: number): string => {
  const path = url.replace(/^file:\/\//, "").replace(/^.*\/node_modules\//, "").replace(/^.*\/(src|test)\//, "$1/")
  return path === "" ? "" : `${path}:${line + 1}`
}

/** The functions with the most self time; idle time is left out of the whole. */
export const summarize = (profile: Profile, top: number): ReadonlyArray<{ share: number; where: string }> => {
  const names = new Map(
    profile.nodes.map(({ callFrame, id }) => [
      id,
      `${callFrame.functionName || "(anonymous)"} ${place(callFrame.url, callFrame.lineNumber)}`.trim()
    ])
  )
  const self = new Map<string, number>()
  let whole = 0
  for (const [i, id] of profile.samples.entries()) {
    const name = names.get(id)!
    if (name === "(idle)") continue
    whole += profile.timeDeltas[i]!
    self.set(name, (self.get(name) ?? 0) + profile.timeDeltas[i]!)
  }
  return [...self]
    .sort(([, a], [, b]) => b - a)
    .slice(0, top)
    .map(([where, micros]) => ({ share: micros / whole, where }))
}

export const printProfiles = (directory: string): string =>
  readdirSync(directory)
    .filter((name) => name.endsWith(".cpuprofile"))
    .map((name) => {
      const profile = JSON.parse(readFileSync(join(directory, name), "utf8")) as Profile
      const lines = summarize(profile, 25).map(({ share, where }) =>
        `${(share * 100).toFixed(1).padStart(5)}%  ${where}`
      )
      return `${join(directory, name)}\n${lines.join("\n")}`
    })
    .join("\n\n")
