;;; midfill-test.el --- Ghost text in a real Emacs  -*- lexical-binding: t; -*-

;;; Commentary:

;; Run by test_emacs.py in batch, with the real server on a script.

;;; Code:

(require 'ert)
(require 'midfill)

(setq midfill-engine "scripted"
      midfill-script (getenv "MIDFILL_SCRIPT"))

(defconst midfill-test-patience 60)

(defun midfill-test-wait (what look)
  "Call LOOK until it returns non-nil; WHAT says what is waited for."
  (let ((deadline (+ (float-time) midfill-test-patience)) seen)
    (while (not (setq seen (funcall look)))
      (when (> (float-time) deadline)
        (ert-fail (list 'waited-for what 'text (buffer-string)
                        'ghost (midfill-test-ghost))))
      (accept-process-output nil 0.02))
    seen))

(defun midfill-test-ghost ()
  "Return the ghost text as drawn, nil where there is none."
  (let ((overlays (sort (seq-filter (lambda (overlay)
                                      (overlay-get overlay 'midfill))
                                    (overlays-in (point-min) (1+ (point-max))))
                        (lambda (a b) (< (overlay-start a) (overlay-start b))))))
    (and overlays
         (progn (should (= (overlay-start (car overlays)) (point)))
                (substring-no-properties
                 (mapconcat (lambda (overlay)
                              (overlay-get overlay 'after-string))
                            overlays))))))

(defun midfill-test-wait-ghost (text)
  "Wait until TEXT is drawn as ghost text."
  (midfill-test-wait (list 'ghost text)
                     (lambda () (equal (midfill-test-ghost) text))))

(defun midfill-test-type (keys)
  "Type KEYS as a user does."
  (execute-kbd-macro (if (stringp keys) (string-to-vector keys) keys)))

(defun midfill-test-key (name)
  "Type the key NAME."
  (midfill-test-type (key-parse name)))

(defun midfill-test-ask ()
  "Do what the idle timer does, which batch never runs."
  (midfill-test-wait 'server #'midfill--server)
  (midfill--on-idle (current-buffer)))

(defmacro midfill-test-with (name text &rest body)
  "Edit a file NAME with TEXT, its cursor where ┃ stands, and run BODY there."
  (declare (indent 2))
  `(let* ((folder (make-temp-file "midfill-test" t))
          (file (expand-file-name ,name folder))
          (coding-system-for-write 'utf-8-unix))
     (write-region (string-replace "┃" "" ,text) nil file nil 'silent)
     (with-current-buffer (find-file-noselect file)
       (unwind-protect
           (progn
             (switch-to-buffer (current-buffer))
             (goto-char (1+ (string-search "┃" (string-replace "\r\n" "\n" ,text))))
             (midfill-mode)
             ,@body)
         (set-buffer-modified-p nil)
         (kill-buffer)
         (delete-directory folder t)))))

(defun midfill-test-bytes ()
  "Save and return what is on the disk, undecoded."
  (let ((file buffer-file-name) (save-silently t) require-final-newline
        coding-system-for-write)
    (save-buffer)
    (with-temp-buffer
      (set-buffer-multibyte nil)
      (insert-file-contents-literally file)
      (buffer-string))))

(defconst midfill-test-area "def area(width, height):\n    return┃\n")

(defmacro midfill-test-with-area (&rest body)
  "Run BODY where `width * height' is suggested."
  `(midfill-test-with "area.py" midfill-test-area
     (midfill-test-type " ")
     (midfill-test-ask)
     (midfill-test-wait-ghost "width * height")
     ,@body))

(ert-deftest midfill-test-draws-accepts-and-saves ()
  (midfill-test-with-area
   (midfill-test-key "TAB")
   (should-not (midfill-test-ghost))
   (should (equal (midfill-test-bytes)
                  "def area(width, height):\n    return width * height\n"))))

(ert-deftest midfill-test-stays-while-it-is-typed ()
  (midfill-test-with-area
   (midfill-test-type "wid")
   (should (equal (midfill-test-ghost) "th * height"))
   (midfill-test-key "TAB")
   (should (equal (buffer-string)
                  "def area(width, height):\n    return width * height\n"))))

(ert-deftest midfill-test-goes-at-once-when-typing-disagrees ()
  (midfill-test-with-area
   (midfill-test-type "x")
   (should-not (midfill-test-ghost))))

(ert-deftest midfill-test-comes-back-with-backspace ()
  (midfill-test-with-area
   (midfill-test-type "width")
   (should (equal (midfill-test-ghost) " * height"))
   (midfill-test-key "DEL")
   (should (equal (midfill-test-ghost) "h * height"))
   (midfill-test-type "x")
   (should-not (midfill-test-ghost))
   (midfill-test-key "DEL")
   (should (equal (midfill-test-ghost) "h * height"))))

(ert-deftest midfill-test-is-undone-in-one-step ()
  (midfill-test-with-area
   (buffer-enable-undo)
   (midfill-test-type "wi")
   (midfill-test-key "TAB")
   (midfill-test-key "C-/")
   (should (equal (buffer-string) "def area(width, height):\n    return wi\n"))))

(ert-deftest midfill-test-accepts-words-and-leaves-the-rest ()
  (midfill-test-with "total.py" "total =┃\n"
    (midfill-test-type " ")
    (midfill-test-ask)
    (midfill-test-wait-ghost "first(width) + second[height]")
    (dolist (rest '("(width) + second[height]" "width) + second[height]"
                    ") + second[height]" " + second[height]"))
      (midfill-test-key "M-f")
      (should (equal (midfill-test-ghost) rest)))
    (midfill-test-key "TAB")
    (should (equal (buffer-string) "total = first(width) + second[height]\n"))))

(ert-deftest midfill-test-accepts-lines-and-leaves-the-rest ()
  (midfill-test-with "block.py" "def block()┃\n"
    (midfill-test-type ":")
    (midfill-test-ask)
    (midfill-test-wait-ghost "\n    one = 1\n    two = 2\n    return one + two")
    (midfill-test-key "C-e")
    (should (equal (midfill-test-ghost) "\n    two = 2\n    return one + two"))
    (midfill-test-key "TAB")
    (should (equal (buffer-string)
                   "def block():\n    one = 1\n    two = 2\n    return one + two\n"))))

(ert-deftest midfill-test-cycles-through-alternatives ()
  (midfill-test-with "area.py" "area =┃\n"
    (midfill-test-type " ")
    (midfill-test-ask)
    (midfill-test-wait-ghost "width * height")
    (midfill-test-key "M-n")
    (midfill-test-wait-ghost "height * width")
    (midfill-test-key "M-n")
    (midfill-test-wait-ghost "width ** 2")
    (midfill-test-key "M-p")
    (midfill-test-wait-ghost "height * width")
    (midfill-test-key "TAB")
    (should (equal (buffer-string) "area = height * width\n"))))

(ert-deftest midfill-test-keys-do-what-they-did-where-nothing-is-shown ()
  (midfill-test-with "empty.txt" "one two┃ three\n"
    (should (eq (key-binding (kbd "M-f")) 'forward-word))
    (should (eq (key-binding (kbd "C-e")) 'move-end-of-line))
    (should-not (eq (key-binding (kbd "TAB")) 'midfill-accept))))

(ert-deftest midfill-test-a-dismissed-suggestion-is-not-offered-again ()
  (midfill-test-with-area
   (midfill-test-key "C-g")
   (should-not (midfill-test-ghost))
   (midfill-test-type "w")
   (let (answered)
     (midfill--ask nil (lambda () (setq answered t)))
     (midfill-test-wait 'answer (lambda () answered)))
   (should-not (midfill-test-ghost))
   (midfill-suggest)
   (midfill-test-wait-ghost "idth * height")))

(dolist (case '(("non-ascii" "naïve =┃\n" " " "café + 1" "naïve = café + 1\n")
                ("astral" "'🙂🙂' +┃\n" " " "'🦀' + tail" "'🙂🙂' + '🦀' + tail\n")
                ("tabs" "if a:\n\tif b:\n\t\treturn┃\n" " " "width * height"
                 "if a:\n\tif b:\n\t\treturn width * height\n")
                ("crlf" "a = 1\r\nreturn┃\r\nb = 2\r\n" " " "width * height"
                 "a = 1\r\nreturn width * height\r\nb = 2\r\n")
                ("text-behind" "return┃\n\nb = 2\n" " " "width * height"
                 "return width * height\n\nb = 2\n")
                ("bracket-behind" "print┃)\n" "(" "width, height"
                 "print(width, height)\n")))
  (pcase-let ((`(,name ,text ,keys ,ghost ,saved) case))
    (eval
     `(ert-deftest ,(intern (concat "midfill-test-saves-what-was-shown-" name)) ()
        (midfill-test-with "code.txt" ,text
          (midfill-test-type ,keys)
          (midfill-test-ask)
          (midfill-test-wait-ghost ,ghost)
          (midfill-test-key "TAB")
          (should (equal (midfill-test-bytes)
                         (encode-coding-string ,saved 'utf-8-unix)))))
     t)))

(ert-deftest midfill-test-a-bracket-that-emacs-closes-is-not-doubled ()
  (midfill-test-with "pairs.py" "print┃\n"
    (electric-pair-local-mode)
    (midfill-test-type "(")
    (should (equal (buffer-string) "print()\n"))
    (midfill-test-ask)
    (midfill-test-wait-ghost "width, height")
    (midfill-test-key "TAB")
    (should (equal (buffer-string) "print(width, height)\n"))))

(ert-deftest midfill-test-an-input-method-is-left-alone ()
  (require 'quail)
  (midfill-test-with-area
   (let ((quail-overlay (make-overlay (point) (point))))
     (should (midfill--composing-p))
     (midfill--forget)
     (midfill--ask nil)
     (delete-overlay quail-overlay))
   (accept-process-output nil 0.5)
   (should-not (midfill-test-ghost))
   (midfill-test-ask)
   (midfill-test-wait-ghost "width * height")))

(ert-deftest midfill-test-edits-reach-the-server-as-they-are ()
  "After edits of all kinds the server's document is the buffer."
  (midfill-test-with "code.txt" "one ┃two\nthree\n"
    (midfill-test-wait 'server #'midfill--server)
    (let ((random-state (random "midfill")) (pieces '("a" "é\n" "🦀" "\n\n" "x y")))
      (dotimes (_ 200)
        (pcase (random 4)
          (0 (delete-region (goto-char (1+ (random (buffer-size))))
                            (min (point-max) (+ (point) (random 4)))))
          (1 (upcase-region (point-min) (point-max)))
          (_ (goto-char (1+ (random (1+ (buffer-size)))))
             (insert (nth (random 5) pieces))))
        (when (zerop (random 3))
          (midfill--send-changes)))
      (ignore random-state))
    (goto-char (point-max))
    (insert "\nreturn ")
    (midfill-test-ask)
    (midfill-test-wait-ghost "width * height")))

(defun midfill-test-types-on ()
  "Type and take back, then ask anew and wait for what is suggested."
  (midfill-test-type "x")
  (midfill-test-key "DEL")
  (midfill--forget)
  (midfill-test-ask)
  (midfill-test-wait-ghost "width * height"))

(ert-deftest midfill-test-another-server-starts-where-one-died ()
  (midfill-test-with-area
   (let ((process (jsonrpc--process midfill--connection)))
     (signal-process process 'KILL)
     (midfill-test-wait 'end (lambda () (not (process-live-p process)))))
   (midfill-test-types-on)))

(ert-deftest midfill-test-a-restart-by-hand-keeps-the-document ()
  (midfill-test-with-area
   (let ((before (jsonrpc--process midfill--connection)))
     (midfill-restart)
     (midfill-test-wait 'end (lambda () (not (process-live-p before)))))
   (midfill-test-types-on)))

(ert-deftest midfill-test-the-mode-line-says-how-much-is-loaded ()
  (let ((midfill--status '(:state "loading" :progress 0.4)))
    (should (equal (string-replace "%%" "%" (midfill--lighter))
                   " midfill:loading 40%"))))

(ert-deftest midfill-test-what-waited-for-the-model-is-asked-for ()
  (midfill-test-with-area
   (midfill--forget)
   (when midfill--timer
     (cancel-timer midfill--timer)
     (setq midfill--timer nil))
   (let ((midfill--status '(:state "loading")))
     (midfill--take-status '(:state "ready")))
   (should midfill--timer)))

(ert-deftest midfill-test-diagnose-says-what-there-is ()
  (midfill-test-with-area
   (midfill-diagnose)
   (with-current-buffer "*midfill*"
     (dolist (fact '("midfill-mode  on" "shared" "running" "ready; scripted"
                     "open" "a suggestion was shown"))
       (should (string-search fact (buffer-string)))))))

(ert-deftest midfill-test-rides-on-eglot ()
  (require 'midfill-eglot)
  (midfill-test-with "area.txt" "return┃\n"
    (let ((eglot-sync-connect 30) (eglot-autoshutdown t))
      (midfill-mode -1)
      (setq midfill--status nil)
      (apply #'eglot (eglot--guess-contact))
      (midfill-test-wait 'eglot #'midfill--eglot-server)
      (midfill-test-wait 'status (lambda () midfill--status))
      (midfill-mode)
      (midfill-test-type "é🙂 = return")
      (erase-buffer)
      (insert "é🙂 = return")
      (midfill-test-type " ")
      (midfill-test-ask)
      (midfill-test-wait-ghost "width * height")
      (midfill-test-type "wi")
      (should (equal (midfill-test-ghost) "dth * height"))
      (midfill-test-key "TAB")
      (should (equal (buffer-string) "é🙂 = return width * height"))
      (should-not midfill--open)
      (eglot-shutdown (eglot-current-server)))))

(ert-deftest midfill-test-stands-beside-another-server-of-eglot ()
  (require 'midfill-eglot)
  (midfill-test-with "area.py" "return┃\n"
    (let* ((eglot-sync-connect 30)
           (eglot-server-programs
            `((python-base-mode . (,(getenv "MIDFILL_PYTHON")
                                   ,(getenv "MIDFILL_OTHER_SERVER"))))))
      (apply #'eglot (eglot--guess-contact))
      (midfill-test-wait 'eglot #'eglot-managed-p)
      (should-not (midfill--eglot-server))
      (midfill-test-type " ")
      (midfill-test-ask)
      (midfill-test-wait-ghost "width * height")
      (should midfill--open)
      (eglot-shutdown (eglot-current-server)))))

(provide 'midfill-test)
;;; midfill-test.el ends here
