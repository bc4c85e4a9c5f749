/** What a run has to take away again, also when it is interrupted: processes, namespaces, files. */

type Undo = () => void

const undos = new Set<Undo>()

/** Remembers how to undo something; what it gives back undoes it now, once. */
export const atEnd = (undo: Undo): Undo => {
  const now = () => {
    if (undos.delete(now)) undo()
  }
  undos.add(now)
  return now
}

/** Undoes everything that is left, the last first. */
export const cleanUp = (): void => {
  for (const undo of [...undos].toReversed()) {
    try {
      undo()
    } catch (error) {
      process.stderr.write(`faults: could not clean up: ${String(error)}\n`)
    }
  }
}

process.on("exit", cleanUp)
for (const [signal, number] of [["SIGINT", 2], ["SIGTERM", 15], ["SIGHUP", 1]] as const) {
  process.on(signal, () => process.exit(128 + number))
}
