/** The terminal: taken for as long as a scope lives, and as it was before after every way out. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { writeSync } from "node:fs"
import * as Readline from "node:readline"
import type { Key, Size } from "./state.ts"

// the other screen, no cursor, and no line that goes on in the next row
const enter = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"
const leave = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"

export interface Screen {
  readonly size: () => Size
  readonly show: (lines: ReadonlyArray<string>) => void
}

// a terminal may say that it has none
const sizeNow = (): Size => ({ columns: process.stdout.columns || 80, rows: process.stdout.rows || 24 })

/** Signals that end the process without its finalizers. */
const deadly = ["SIGHUP", "SIGQUIT"] as const

/** Takes the terminal; keys and changes of its size are told until the scope closes. */
export const open = (
  told: { readonly key: (key: Key) => void; readonly resized: () => void; readonly lost: () => void }
): Effect.Effect<Screen, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => {
        const { stdin, stdout } = process
        const hasKeys = stdin.isTTY === true
        let isTaken = true
        const restore = (): void => {
          if (!isTaken) return
          isTaken = false
          try {
            if (hasKeys) stdin.setRawMode(false)
            // at the end of a process nothing else is written any more
            writeSync(1, leave)
          } catch {
            // the terminal is gone
          }
        }
        const press = (text: string | undefined, key: { name?: string; ctrl?: boolean }): void =>
          told.key({ name: key.name, text, ctrl: key.ctrl === true })
        const killed = (signal: NodeJS.Signals): void => {
          restore()
          for (const name of deadly) process.off(name, killed)
          process.kill(process.pid, signal)
        }
        // an uncaught error, and `process.exit`
        process.on("exit", restore)
        for (const name of deadly) process.on(name, killed)
        stdout.on("resize", told.resized)
        stdout.on("error", told.lost)
        if (hasKeys) {
          Readline.emitKeypressEvents(stdin, undefined)
          stdin.setRawMode(true)
          stdin.on("keypress", press)
          stdin.on("end", told.lost)
          stdin.resume()
        }
        stdout.write(enter)
        return () => {
          stdout.off("resize", told.resized)
          stdout.off("error", told.lost)
          if (hasKeys) {
            stdin.off("keypress", press)
            stdin.off("end", told.lost)
            stdin.pause()
          }
          for (const name of deadly) process.off(name, killed)
          restore()
          process.off("exit", restore)
        }
      }),
      (close) => Effect.sync(close)
    ),
    () => ({
      size: sizeNow,
      // each line is written over what was there, so that nothing flickers
      show: (lines) => void process.stdout.write(`\x1b[H${lines.map((line) => `${line}\x1b[K`).join("\r\n")}\x1b[J`)
    })
  )
