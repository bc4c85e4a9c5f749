/** Loaded first by every Node process of the bench: answers what only the process itself knows of its memory. */
import { onCommand } from "./commands.ts"

onCommand("heap", () => {
  globalThis.gc!()
  globalThis.gc!()
  return process.memoryUsage().heapUsed
})
