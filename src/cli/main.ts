#!/usr/bin/env node
/** The `holdfast` command. Node keeps the compiled code of what it loads, which halves the time to the next start. */
import * as Module from "node:module"

const { enableCompileCache }: Partial<typeof Module> = Module
// Deno has none
enableCompileCache?.()
const { run } = await import("./command.ts")
run()
