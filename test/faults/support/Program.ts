/** A program in a process of its own: the lines it says, with the moment of each, and its end. */
import * as ChildProcess from "node:child_process"
import * as Readline from "node:readline"
import { atEnd } from "./cleanUp.ts"
import { until } from "./until.ts"

export interface Line {
  /** `performance.now()` of this process. */
  readonly at: number
  readonly text: string
}

export interface Exit {
  readonly at: number
  /** The exit code, or the name of the signal. */
  readonly how: number | string
}

export class Program {
  /** Of both its outputs. */
  readonly lines: Array<Line> = []
  exit: Exit | undefined
  readonly title: string
  readonly #child: ChildProcess.ChildProcess

  constructor(title: string, command: string, args: ReadonlyArray<string>, env: Readonly<Record<string, string>> = {}) {
    this.title = title
    const child = ChildProcess.spawn(command, args, {
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...process.env, NODE_OPTIONS: "", NODE_NO_WARNINGS: "1", NO_COLOR: "1", ...env }
    })
    this.#child = child
    child.stdin.on("error", () => {})
    for (const output of [child.stdout, child.stderr]) {
      Readline.createInterface({ input: output }).on("line", (text) => this.lines.push({ at: performance.now(), text }))
    }
    child.on("error", (error) => this.#ended(String(error)))
    const undo = atEnd(() => child.kill("SIGKILL"))
    child.on("exit", (code, signal) => {
      undo()
      this.#ended(code ?? signal ?? "gone")
    })
  }

  #ended(how: number | string): void {
    this.exit ??= { at: performance.now(), how }
  }

  get pid(): number {
    return this.#child.pid ?? -1
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name)
  }

  say(text: string): void {
    this.#child.stdin!.write(text)
  }

  /** The first of the lines since a moment of which `read` makes something. */
  find<A>(
    read: (text: string) => A | undefined,
    since: number = 0
  ): { readonly at: number; readonly found: A } | undefined {
    for (const { at, text } of this.lines) {
      if (at < since) continue
      const found = read(text)
      if (found !== undefined) return { at, found }
    }
    return undefined
  }

  /** Waits for such a line. */
  async says<A>(
    what: string,
    read: (text: string) => A | undefined,
    options: { readonly since?: number; readonly deadline?: number } = {}
  ): Promise<{ readonly at: number; readonly found: A }> {
    let line: { readonly at: number; readonly found: A } | undefined
    const tail = () => this.lines.slice(-5).map(({ text }) => text).join("\n")
    await until(() => `${this.title}: ${what}, it said last:\n${tail()}`, () => {
      line = this.find(read, options.since)
      if (line === undefined && this.exit !== undefined) {
        throw new Error(`${this.title} ended (${this.exit.how}) before ${what}:\n${tail()}`)
      }
      return line !== undefined
    }, options.deadline)
    return line!
  }

  /** Waits for its end. */
  async ended(deadline?: number): Promise<Exit> {
    await until(() => `the end of ${this.title}`, () => this.exit !== undefined, deadline)
    return this.exit!
  }

  /** Ends it at once. */
  async kill(): Promise<void> {
    this.signal("SIGKILL")
    await this.ended()
  }
}
