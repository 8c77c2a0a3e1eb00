#!/usr/bin/env node
/** The `espfix` command. */
import { processIo } from './io.ts';
import { espfix } from './program.ts';

process.exit(await espfix(process.argv.slice(2), processIo()));
