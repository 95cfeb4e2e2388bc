-- The schema of qtm: one text for SQLite, MySQL 8 and MariaDB 10.6 and newer. MySQL alone reads /*! these */.
-- No CHECK constraint guards a status and its times: to add one, MySQL and MariaDB copy the table and refuse writes
-- until they are done, and SQLite cannot. Every change of a status is a compare-and-set, and tests try each.
-- Numbered steps, only ever appended; a released step is never edited. `python3 qtm.py migrate` applies them.

-- step 1: batches, tasks, results
CREATE TABLE backtest_batches (
  batch_id   VARCHAR(64) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL PRIMARY KEY,
  name       VARCHAR(200) NULL,
  created_at DATETIME(6) NOT NULL
) /*! ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin */;

-- For listBatches: newest first, a page at a time.
CREATE INDEX backtest_batches_newest ON backtest_batches (created_at, batch_id);

-- The row that status queries read; results lie apart. Documents are JSON text: a JSON column would reorder
-- keys on MySQL and turn numbers into text on SQLite.
CREATE TABLE backtest_tasks (
  -- UUIDv7, so that keys arrive in order
  task_id         CHAR(36) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL PRIMARY KEY,
  batch_id        VARCHAR(64) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL,
  stock_code      VARCHAR(32) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL,
  config          LONGTEXT NOT NULL,
  params          LONGTEXT NOT NULL,
  -- pending -> running, cancelled;  running -> completed, failed, pending, cancelled
  -- failed, cancelled -> pending (retryTask)
  status          VARCHAR(9) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL,
  progress        DOUBLE NOT NULL,           -- 0.0 to 1.0, never falls within an attempt
  message         VARCHAR(500) NOT NULL,     -- of the engine, the last one
  attempt         INTEGER NOT NULL,          -- how often it was started; guards every write of a runner
  max_attempts    INTEGER NOT NULL,          -- as the client asked
  attempt_limit   INTEGER NOT NULL,          -- it fails after this one; a release and a retryTask raise it
  timeout_seconds DOUBLE NOT NULL,           -- wall time of one attempt
  priority_rank   INTEGER NOT NULL,          -- the negated priority: one ascending index orders the claims
  created_at      DATETIME(6) NOT NULL,      -- all times are UTC, from the database's clock
  run_at          DATETIME(6) NOT NULL,      -- not before this; in the future while a failed attempt waits
  started_at      DATETIME(6) NULL,
  finished_at     DATETIME(6) NULL,
  -- the scheduler that runs it; guards its writes
  worker_id       VARCHAR(190) /*! CHARACTER SET ascii COLLATE ascii_bin */ NULL,
  heartbeat       BIGINT NOT NULL,           -- counts up while its scheduler lives; in no index, see below
  error           LONGTEXT NULL,             -- {type, message, attempt, traceback?} of the last failed one
  engine_version  VARCHAR(100) NULL
) /*! ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin */;

-- The order of claims. It equals WHERE and ORDER BY, so that a claim locks what it takes and what waits
-- before it; run_at is in it so that waiting rows are passed over inside the index. The heartbeat is not: an
-- indexed one deadlocks with the reaper.
CREATE INDEX backtest_tasks_queue ON backtest_tasks (status, priority_rank, created_at, task_id, run_at);

-- For getTasksByBatch in the order of creation, and the counts of a batch.
CREATE INDEX backtest_tasks_batch ON backtest_tasks (batch_id, task_id);

-- For listTasks by status or stock, newest first.
CREATE INDEX backtest_tasks_status ON backtest_tasks (status, task_id);
CREATE INDEX backtest_tasks_stock ON backtest_tasks (stock_code, task_id);

CREATE TABLE backtest_results (
  task_id    CHAR(36) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL PRIMARY KEY,
  result     LONGTEXT NOT NULL,              -- the engine's JSON object
  non_finite LONGTEXT NOT NULL               -- JSON list of the paths that were NaN or infinite and are null
) /*! ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin */;

-- One row per create that carried an Idempotency-Key. The key is unique, so that of many repeats one creates.
CREATE TABLE backtest_idempotency_keys (
  idempotency_key VARCHAR(255) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL PRIMARY KEY,
  request_sha256  CHAR(64) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL,
  batch_id        VARCHAR(64) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL,
  task_ids        LONGTEXT NOT NULL,
  created_at      DATETIME(6) NOT NULL
) /*! ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin */;

-- One row per living scheduler: whether anybody will come for a pending task. No lease hangs on it.
CREATE TABLE backtest_workers (
  worker_id  VARCHAR(190) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL PRIMARY KEY,
  slots      INTEGER NOT NULL,
  started_at DATETIME(6) NOT NULL,
  seen_at    DATETIME(6) NOT NULL
) /*! ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin */;

-- step 2: attempts on record
-- One row per attempt, written by the transaction that ends it; the newest 100 of a task are kept.
CREATE TABLE backtest_attempts (
  task_id       CHAR(36) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL,
  attempt       INTEGER NOT NULL,
  worker_id     VARCHAR(190) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL,
  started_at    DATETIME(6) NOT NULL,
  ended_at      DATETIME(6) NULL,
  -- completed, failed, timeout, crashed, out_of_memory, worker_lost, released, cancelled
  ending        VARCHAR(20) NULL,
  error         LONGTEXT NULL,               -- as in backtest_tasks
  exit_code     INTEGER NULL,                -- of the engine process; null when a signal ended it
  exit_signal   VARCHAR(20) NULL,            -- its name, SIGKILL for one
  max_rss_bytes BIGINT NULL,                 -- the largest process of the attempt, at its peak
  cpu_seconds   DOUBLE NULL,                 -- of all its processes, user and system
  output_tail   TEXT NOT NULL,               -- the end of what it printed
  PRIMARY KEY (task_id, attempt)
) /*! ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin */;

-- step 3: stock codes of any script; indexes for every list and count
-- MySQL rebuilds the table once, and replaces each index in one statement, so that replicas of the version
-- before, which force an index by its name, always find it; the CREATE INDEX below are for SQLite. It takes
-- texts of any width and compares their bytes, as the NO PAD collations do.
/*! ALTER TABLE backtest_tasks
  MODIFY stock_code VARCHAR(64) CHARACTER SET utf8mb4 */
  /*M! COLLATE utf8mb4_nopad_bin */ /*!80017 COLLATE utf8mb4_0900_bin */
  /*! NOT NULL,
  ADD INDEX backtest_tasks_batch_stock (batch_id, stock_code, status, task_id), */
  DROP INDEX backtest_tasks_stock /*! , ADD INDEX backtest_tasks_stock (stock_code, status, task_id) */;
/*! ALTER TABLE backtest_tasks */
  DROP INDEX backtest_tasks_batch
  /*! , ADD INDEX backtest_tasks_batch (batch_id, status, task_id, progress) */;

-- For getTasksByBatch, a branch for each status, and for the counts and the progress of a batch.
CREATE INDEX backtest_tasks_batch ON backtest_tasks (batch_id, status, task_id, progress);

-- For the tasks of a stock, in one batch and in all, a branch for each status.
CREATE INDEX backtest_tasks_batch_stock ON backtest_tasks (batch_id, stock_code, status, task_id);
CREATE INDEX backtest_tasks_stock ON backtest_tasks (stock_code, status, task_id);

-- JSON list of the paths that are stored as text, having no JSON form
ALTER TABLE backtest_results ADD COLUMN converted LONGTEXT NULL;

-- step 4: an index for the retention of Idempotency-Keys, which looks at the oldest first
CREATE INDEX backtest_idempotency_keys_oldest ON backtest_idempotency_keys (created_at, idempotency_key);

-- step 5: metrics beside the task
-- One row per completed task, written with its outcome: what a ranking of a batch reads, so that it passes
-- over no wide rows. Its key keeps the rows of a batch together.
CREATE TABLE backtest_metrics (
  batch_id         VARCHAR(64) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL,
  task_id          CHAR(36) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL,
  stock_code       VARCHAR(64) /*! CHARACTER SET utf8mb4 */ /*M! COLLATE utf8mb4_nopad_bin */
                   /*!80017 COLLATE utf8mb4_0900_bin */ NOT NULL,
  params           LONGTEXT NOT NULL,
  params_key       BIGINT NOT NULL,          -- a hash of params, the same for any order of their names
  start_date       VARCHAR(10) NULL,         -- of config
  end_date         VARCHAR(10) NULL,
  engine_version   VARCHAR(100) NULL,
  periods_per_year DOUBLE NULL,              -- of the metric sharpe
  period_sharpe    DOUBLE NULL,              -- the Sharpe ratio of one period, and its standard error
  sharpe_error     DOUBLE NULL,
  metrics          LONGTEXT NOT NULL,        -- JSON object: the numbers of the result's metrics, at most 64
  PRIMARY KEY (batch_id, task_id)
) /*! ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin */;

-- step 6: run cards, results that are taken over, drift
-- MySQL adds columns at the end of a table without touching its rows.
-- The name of the token that created the task
ALTER TABLE backtest_tasks ADD COLUMN created_by VARCHAR(64) /*! CHARACTER SET ascii COLLATE ascii_bin */ NULL;
-- The task whose row of backtest_results is this one's too, since its run_key is the same
ALTER TABLE backtest_tasks ADD COLUMN result_of CHAR(36) /*! CHARACTER SET ascii COLLATE ascii_bin */ NULL;
-- JSON object: the engine, its versions, its host and its data, and what the attempt used
ALTER TABLE backtest_results ADD COLUMN run_card LONGTEXT NULL;
-- SHA-256 of engine, version, stock, config, params and data version
ALTER TABLE backtest_metrics ADD COLUMN run_key CHAR(64) /*! CHARACTER SET ascii COLLATE ascii_bin */ NULL;
-- 1: an earlier task of the same run_key has other metrics
ALTER TABLE backtest_metrics ADD COLUMN drift INTEGER NULL;
-- JSON object: the counts of the answer, beside task_ids
ALTER TABLE backtest_idempotency_keys ADD COLUMN counts LONGTEXT NULL;

-- For an earlier task of the same run_key, once for each task that completes.
CREATE INDEX backtest_metrics_run_key ON backtest_metrics (run_key);

-- One row per task that has a result_of: a result stays while it is in one of them.
CREATE TABLE backtest_reuses (
  result_of CHAR(36) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL,
  task_id   CHAR(36) /*! CHARACTER SET ascii COLLATE ascii_bin */ NOT NULL,
  PRIMARY KEY (result_of, task_id)
) /*! ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin */;

-- step 7: the version of the data beside the metrics
-- As the engine's data_version gave it; NULL where it gives none, and of tasks that completed before
ALTER TABLE backtest_metrics ADD COLUMN data_version VARCHAR(200) NULL;
